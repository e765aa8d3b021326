"""Follows a run of a workflow to its end, and then the page that it deploys.

Rules:
1. A green run is no proof: it is built once GitHub Pages says `succeed` of the commit that the workflow ran on.
2. Somebody may run it again in GitHub: the newest attempt counts.
3. A deployment of Pages is never cancelled from here: GitHub may refuse its commit for ever after.
"""

from contextlib import aclosing

from domain.build import Build
from domain.errors import DeploymentError, ErrorCode
from domain.log import LogLevel, LogLine
from providers.base import BuildNews
from providers.github_pages.calls import READ_PAGES_DEPLOYMENT, Job, PagesDeployment, Run
from providers.github_pages.follow import PAGES_STEP, End, Follower, Following, News, line
from providers.github_pages.job_log import LINES_AT_ONCE, NoLog, NotYet, error_in, read_log
from providers.github_pages.run_steps import NAME_LENGTH, current, failed_place, in_order, progress
from providers.github_pages.runs import STARTED, WorkflowRuns
from providers.github_pages.source import described, pinned
from providers.github_pages.told import WHOLE
from providers.github_pages.words import (
    CONCLUSIONS,
    ENDED,
    NAME_HINT,
    PAGES,
    PAGES_WAITS,
    RUNNING,
    SITE_HINT,
    WAITS,
    Verdict,
    why_waiting,
)
from providers.http import link, plain

_NO_LIVE_LOGS = "GitHub hands over the log of a job once the job has ended; until then, its steps are told"
_UNNAMED = f"the run's name does not hold the deployment's id, so that it cannot be found again: {NAME_HINT}"


class RunFollower(Follower):
    def __init__(self, following: Following, runs: WorkflowRuns, build: Build, cursor: str) -> None:
        super().__init__(following, cursor)
        self._runs = runs
        self._build_id = build.build_id

    async def look(self) -> News:
        run = await self._runs.read(self._build_id)
        if run is None:
            yield self._missing()
            return
        self.told.found("run")
        await self._learn_source(run)
        jobs = await self._runs.jobs(run)
        self._see(run, jobs)
        yield self.now(self._opening(run))
        yield self.now(await self.write_beginning(self._commit(run)))
        for job in in_order(jobs):
            async with aclosing(self._tell(job)) as told:
                async for news in told:
                    yield news
        async with aclosing(self._end(run, jobs)) as ended:
            async for news in ended:
                yield news

    def _missing(self) -> BuildNews:
        """GitHub shows no such run: not yet, or no longer."""
        started = self._build_id.startswith(STARTED)
        if not (started or self._build_id.isdecimal()):
            return self.gone(f"there is no run {self._build_id[:80]!r}")
        if not self.told.waited_too_long("run", self.pace.find if started else self.pace.gone):
            self.waiting = "GitHub does not show the run yet"
            return self.now()
        what = f"a run with the deployment's id in its name ({NAME_HINT})" if started else f"run {self._build_id}"
        return self.gone(f"GitHub does not show {what}")

    async def _learn_source(self, run: Run) -> None:
        if self.source is not None:
            return
        sha, text = self.request.commit_sha or run.head_sha, run.head_commit
        try:
            commit = await pinned(self.repository, self.request)
        except DeploymentError as error:
            if error.retryable:
                raise
            text = None  # the commit is gone from the repository, which is no trouble of the run's
        else:
            sha, text = (commit.sha, commit.commit) if commit else (sha, text)
        self.source = described(self.repository, self.request, sha, text)

    def _commit(self, run: Run) -> str:
        return (self.source and self.source.commit) or run.head_sha

    def _see(self, run: Run, jobs: list[Job]) -> None:
        """How far it is, and what it waits for: a job may wait while the run is said to be in progress."""
        if run.status == ENDED and self.step == PAGES_STEP:
            return  # the page says more than the run
        words = {job.status for job in jobs if job.status}
        begun = run.status in {RUNNING, ENDED} or words & {RUNNING, ENDED}
        self.stage = "building" if begun else "initializing"
        self.step = current(jobs)
        self.waiting = None
        if run.status == ENDED:
            if run.conclusion not in CONCLUSIONS:
                self.waiting = why_waiting(WAITS, run.conclusion, "GitHub")
        elif run.status != RUNNING:
            self.waiting = why_waiting(WAITS, run.status, "GitHub")
        elif RUNNING not in words and (held := words & WAITS.keys()):
            self.waiting = WAITS[min(held)]

    def _opening(self, run: Run) -> list[LogLine]:
        attempt = run.run_attempt or 1
        if attempt <= self.told.attempt:
            return []
        first, self.told.attempt = self.told.attempt == 0, attempt
        at = run.run_started_at or run.created_at
        page = link(run.html_url) or f"run {run.id}"
        name = f"{self._runs.workflow}, attempt {attempt}: {page}"
        if not first:
            return [line(f"somebody ran it again in GitHub: {name}", at=at)]
        unnamed = [] if self._runs.names_us(run) else [line(_UNNAMED, at=at, level=LogLevel.WARN)]
        return [line(_NO_LIVE_LOGS, at=at), line(name, at=at), *unnamed]

    async def _tell(self, job: Job) -> News:
        told = self.told.job(job.id)
        if told.lines == WHOLE:
            return
        lines = []
        for new in progress(job, told):
            lines.append(new)
            if len(lines) == LINES_AT_ONCE:
                yield self.now(lines)
                lines = []
        if lines:
            yield self.now(lines)
        if job.status != ENDED:
            return
        if job.conclusion != "skipped" and (job.steps or job.conclusion != "cancelled"):
            async with aclosing(self._tell_log(job)) as news:
                async for part in news:
                    yield part
            if f"log {job.id}" in self.told.missing:
                return
        self.told.finish(job.id)
        yield self.now()

    async def _tell_log(self, job: Job) -> News:
        """The log's lines; a line that says why there are none, once it has been waited for."""
        told, missing = self.told.job(job.id), f"log {job.id}"
        try:
            async with aclosing(read_log(self.repository, job, told.lines)) as batches:
                async for batch in batches:
                    told.lines += len(batch)
                    yield self.now(batch)
            self.told.found(missing)
        except (NotYet, NoLog) as why:
            if isinstance(why, NotYet) and not self.told.waited_too_long(missing, self.pace.log):
                return
            self.told.found(missing)
            self.told.finish(job.id)
            name = plain(job.name, NAME_LENGTH)
            where = link(job.html_url) or "its page in GitHub"
            message = f"the log of {name} is not whole: {why}; see {where}"
            yield self.now([line(message, at=job.completed_at, step=name, level=LogLevel.WARN)])

    async def _end(self, run: Run, jobs: list[Job]) -> News:
        verdict = CONCLUSIONS.get(run.conclusion or "") if run.status == ENDED else None
        if verdict is None:
            self.told.found("jobs")
            return
        if any(f"log {job.id}" in self.told.missing for job in jobs):
            return
        if any(job.status != ENDED for job in jobs) and not self.told.waited_too_long("jobs", self.pace.log):
            return
        yield self.now(self._ending(run, verdict))
        if verdict.stage == "built":
            end = await self._page(run)
            if end is None:
                return
            if not self.told.page:
                self.told.page = True
                yield self.now([line(end.said, step=PAGES_STEP)])
            last = End(end.stage, end.failure())
        else:
            last = await self._bad_end(verdict, jobs)
        async with aclosing(self.finish(last, self._commit(run))) as ended:
            async for news in ended:
                yield news

    def _ending(self, run: Run, verdict: Verdict) -> list[LogLine]:
        attempt = run.run_attempt or 1
        if attempt <= self.told.ended:
            return []
        self.told.ended = attempt
        level = None if run.conclusion == "success" else LogLevel.WARN
        return [line(verdict.said, at=run.updated_at, level=level)]

    async def _bad_end(self, verdict: Verdict, jobs: list[Job]) -> End:
        failure = verdict.failure()
        place = failed_place(jobs)
        if failure is None or place is None:
            return End(verdict.stage, failure)
        excerpt, exit_code = await error_in(self.repository, place[0])
        said = {
            "message": f"{failure.message}: {place[1]}",
            "phase": place[1],
            "log_excerpt": excerpt,
            "exit_code": exit_code,
        }
        return End(verdict.stage, failure.model_copy(update=said))

    async def _page(self, run: Run) -> Verdict | None:
        """What GitHub Pages says of the commit that the workflow ran on; None as long as it is not final."""
        self.step = PAGES_STEP
        found = await self.repository.look(READ_PAGES_DEPLOYMENT, PagesDeployment, id=run.head_sha)
        if found is not None:
            self.told.found("pages")
            verdict = PAGES.get(found.status or "")
            self.waiting = None if verdict else why_waiting(PAGES_WAITS, found.status, "GitHub Pages")
            return verdict
        self.waiting = "GitHub Pages does not show the deployment yet"
        if not self.told.waited_too_long("pages", self.pace.pages):
            return None
        return Verdict(
            "failed",
            f"the run succeeded, but GitHub Pages knows no deployment of its commit {run.head_sha[:12]}",
            ErrorCode.DEPLOY_FAILED,
            hint=f"the workflow has to deploy by actions/deploy-pages, and the credential to read Pages; {SITE_HINT}",
        )
