"""Runs of a workflow: started once for a deployment, found again, cancelled.

Rules:
1. A run belongs to a deployment when GitHub said so on starting it, or when its title holds the deployment's id
   (`run-name`). The newest run is never taken for ours.
2. A start without a clear answer is looked for in the list, which lags behind, several times over some 20 s. Only then
   may it be tried again, and not before another look.
"""

import asyncio
import time
from datetime import timedelta

from domain.build import BuildRequest
from domain.errors import DeploymentError, ErrorCode
from domain.source import check_source_ref
from providers.github_pages.calls import (
    CANCEL_RUN,
    DISPATCH,
    FORCE_CANCEL,
    LIST_JOBS,
    LIST_RUNS,
    READ_REPOSITORY,
    READ_RUN,
    Dispatched,
    Job,
    Jobs,
    Repo,
    Run,
    Runs,
)
from providers.github_pages.pace import Pace
from providers.github_pages.repository import PER_PAGE, Repository
from providers.github_pages.source import pinned, wanted_since
from providers.github_pages.words import ENDED, INPUTS_HINT, NAME_HINT
from providers.http import Ambiguous, Answer, CallFailed

STARTED = "started-"
"""Begins the build id of a run that GitHub has accepted and not told the id of."""
_MOST_PAGES = 10
_CANCEL_LOOK = 1.0
_CLOCKS_DIFFER = timedelta(minutes=10)


class WorkflowRuns:
    def __init__(self, repository: Repository, workflow: str, request: BuildRequest, pace: Pace) -> None:
        self.repository = repository
        self.workflow = workflow
        self._request = request
        self._pace = pace

    async def start(self) -> str:
        """The build id of the run that is there, else of a new one."""
        found = await self.find()
        return str(found.id) if found else await self._start()

    async def read(self, build_id: str) -> Run | None:
        """The run as it is now; None when GitHub shows none."""
        if build_id.startswith(STARTED):
            return await self.find()
        if not build_id.isdecimal():
            return None
        return await self.repository.look(READ_RUN, Run, run=build_id)

    async def jobs(self, run: Run) -> list[Job]:
        """Of the newest attempt. A run has up to a thousand."""
        jobs: list[Job] = []
        for page in range(1, _MOST_PAGES + 1):
            params = {"per_page": PER_PAGE, "page": page}
            listed = await self.repository.look(LIST_JOBS, Jobs, params=params, run=str(run.id))
            jobs += listed.jobs if listed else []
            if listed is None or len(listed.jobs) < PER_PAGE:
                break
        return jobs

    async def cancel(self, build_id: str) -> None:
        """Returns once the run does not run any more, which GitHub only promises at first."""
        run = await self.read(build_id)
        if run is None and build_id.startswith(STARTED):
            run = await self._look_again()
            if run is None:
                message = "the run that was to be cancelled cannot be found: its name does not hold the deployment's id"
                raise DeploymentError(ErrorCode.CONFLICT, message, details={"hint": NAME_HINT})
        since, ask_at = time.monotonic(), 0.0
        while run is not None and run.status != ENDED:
            took = time.monotonic() - since
            if took >= self._pace.cancel:
                raise still_going("run", took)
            if took >= ask_at:
                await self.repository.ask(FORCE_CANCEL if took >= self._pace.force else CANCEL_RUN, run=str(run.id))
                ask_at = took + self._pace.poll
            await asyncio.sleep(min(self._pace.poll, _CANCEL_LOOK))
            run = await self.read(str(run.id))

    async def find(self) -> Run | None:
        """By our id in its title; the first one, should there be several."""
        oldest = wanted_since(self._request.deployment_id) - _CLOCKS_DIFFER
        ours: list[Run] = []
        for page in range(1, _MOST_PAGES + 1):
            runs = await self._list(page)
            ours += [run for run in runs if self.names_us(run)]
            if len(runs) < PER_PAGE or min(run.created_at for run in runs) < oldest:
                break
        return min(ours, key=lambda run: run.id, default=None)

    def names_us(self, run: Run) -> bool:
        return self._request.deployment_id in run.display_title

    async def _list(self, page: int) -> list[Run]:
        params = {"event": "workflow_dispatch", "per_page": PER_PAGE, "page": page}
        try:
            answer = await self.repository.ask(LIST_RUNS, params=params, workflow=self.workflow)
        except CallFailed as error:
            if error.status != 404:
                raise
            raise DeploymentError(
                ErrorCode.INVALID_REQUEST,
                f"GitHub shows no workflow {self.workflow} in {self.repository}: there is none in its default branch, "
                "or the credential may not see it",
            ) from None
        return answer.read(Runs).workflow_runs

    async def _start(self) -> str:
        try:
            answer = await self._dispatch()
            if answer.status == 200:
                return str(answer.read(Dispatched).workflow_run_id)
        except Ambiguous:
            found = await self._look_again()
            if found is None:
                raise
            return str(found.id)
        found = await self._look_again()
        return str(found.id) if found else STARTED + self._request.deployment_id

    async def _dispatch(self) -> Answer:
        check_source_ref(self._request.source_ref)
        commit = await pinned(self.repository, self._request)
        start = {
            "ref": await self._ref_to_run_on(commit.sha if commit else None),
            "inputs": {
                "deployment_id": self._request.deployment_id,
                "environment": self._request.environment,
                "ref": commit.sha if commit else "",
            },
        }
        try:
            return await self.repository.ask(
                DISPATCH, json={**start, "return_run_details": True}, workflow=self.workflow
            )
        except CallFailed as error:
            if error.status != 422:
                raise
            if "return_run_details" in error.message:  # a GitHub Enterprise Server that does not know it
                return await self.repository.ask(DISPATCH, json=start, workflow=self.workflow)
            raise DeploymentError(error.code, error.message, details={"hint": INPUTS_HINT}) from None

    async def _ref_to_run_on(self, commit: str | None) -> str:
        """GitHub starts a workflow on a branch or a tag alone: a mere commit is checked out by the default branch's."""
        ref = self._request.source_ref
        if commit is None or not commit.startswith(ref):
            return ref
        return (await self.repository.ask(READ_REPOSITORY)).read(Repo).default_branch

    async def _look_again(self) -> Run | None:
        """Looks that fail are none: somebody else looks once more before anything is started again."""
        for pause in self._pace.looks:
            await asyncio.sleep(pause)
            try:
                found = await self.find()
            except DeploymentError as error:
                if not error.retryable:
                    raise
                continue
            if found is not None:
                return found
        return None


def still_going(what: str, seconds: float) -> DeploymentError:
    message = f"GitHub has not ended the {what} within {seconds:.0f} s"
    return DeploymentError(ErrorCode.UNAVAILABLE, message, retry_after_seconds=5)
