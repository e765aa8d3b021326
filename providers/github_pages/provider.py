"""The `github-pages` provider: pages that GitHub publishes, by a workflow of the user's or from a branch.

GitHub makes deployments of Pages only from inside of its Actions, and has no rollback. So a deployment is a run of a
workflow that we start (`runs`) or a build of a branch that we ask for (`builds`). It is followed to its end
(`run_follow`, `build_follow`), and shown in the repository as a GitHub Deployment (`record`). Its words are in `words`.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar

from domain.build import Build, BuildRequest
from domain.errors import DeploymentError, ErrorCode
from domain.log import LogLevel
from domain.result import BuildReport, DeploymentMetrics
from providers.base import BuildNews, Capability, Provider, Publication
from providers.beats import with_beats
from providers.github_pages.build_follow import BuildFollower
from providers.github_pages.builds import BranchBuilds
from providers.github_pages.credentials import App, Credential, PersonalToken
from providers.github_pages.follow import Following, line, page_url
from providers.github_pages.pace import Pace
from providers.github_pages.record import Record
from providers.github_pages.report import report
from providers.github_pages.repository import Repository
from providers.github_pages.run_follow import RunFollower
from providers.github_pages.runs import WorkflowRuns
from providers.github_pages.settings import BranchSettings, WorkflowSettings, read_settings
from providers.github_pages.words import SITE_HINT
from providers.http import Http, Options
from providers.wake import Watch, unwoken

API_URL = "https://api.github.com"
SECRET = "GITHUB_TOKEN"  # noqa: S105 - the name of a project's secret


class GithubPages(Provider):
    """`token` or `app` is what the operator gives; a project's own secret wins. `public_url` is where our API is.

    `watch` says when there may be news (webhooks).
    """

    name: ClassVar[str] = "github-pages"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CANCEL})

    def __init__(
        self,
        token: str | None = None,
        api_url: str = API_URL,
        options: Options | None = None,
        *,
        app: App | None = None,
        public_url: str | None = None,
        watch: Watch = unwoken,
        pace: Pace | None = None,
    ) -> None:
        self._http = Http(self.name, api_url, options)
        self._token = token
        self._app = app
        self._public_url = public_url
        self._pace = pace or Pace()
        self._watch = watch

    async def close(self) -> None:
        await self._http.close()

    async def start_build(self, request: BuildRequest) -> Build:
        if request.configuration.skip_deploy:
            raise DeploymentError(
                ErrorCode.INVALID_REQUEST,
                "github-pages cannot build without publishing: accepted is a deployment without skipDeploy",
            )
        return request.build(await self._work(request).start())

    async def find_build(self, request: BuildRequest) -> Build | None:
        """A build from a branch cannot be stopped, whoever finds it."""
        work = self._work(request)
        run = await work.find() if isinstance(work, WorkflowRuns) else None
        return None if run is None else request.build(str(run.id))

    async def follow_build(self, request: BuildRequest, build: Build, cursor: str) -> AsyncGenerator[BuildNews, None]:
        async with self._watch(request.deployment_id) as wake:
            work = self._work(request)
            record = Record(work.repository, request, self._public_url)
            following = Following(work.repository, request, record, self._pace, wake)
            follower = (
                RunFollower(following, work, build, cursor)
                if isinstance(work, WorkflowRuns)
                else BuildFollower(following, work, build, cursor)
            )
            first = BuildNews(cursor=cursor, stage="initializing")
            async with aclosing(with_beats(follower.news(), first)) as all_news:
                async for news in all_news:
                    yield news

    async def cancel_build(self, request: BuildRequest, build: Build) -> None:
        """GitHub has no cancel for a build from a branch: its end is waited for."""
        work = self._work(request)
        if isinstance(work, WorkflowRuns):
            await work.cancel(build.build_id)
        else:
            await work.wait_for_end(build.build_id)

    def publishes_itself(self, request: BuildRequest) -> bool:
        del request
        return True

    async def publish_build(self, request: BuildRequest, build: Build) -> Publication:
        """GitHub has published it: this only says where."""
        del build
        repository = self._work(request).repository
        url = await page_url(repository)
        if url is None:
            unknown = line(f"GitHub does not say where the page is: {SITE_HINT}", step="publish", level=LogLevel.WARN)
            return Publication(lines=[unknown])
        return Publication(deployment_url=url, lines=[line(f"GitHub Pages serves it at {url}", step="publish")])

    async def collect_report(self, request: BuildRequest, build: Build) -> BuildReport:
        work = self._work(request)
        if isinstance(work, WorkflowRuns):
            return await report(work, build.build_id)
        found = await work.find(build.build_id)
        milliseconds = found.duration or 0 if found else 0
        return BuildReport(metrics=DeploymentMetrics(build_time=milliseconds / 1000))

    @classmethod
    def check_settings(cls, settings: dict[str, Any], repository_url: str | None) -> None:
        del repository_url  # the repository is the one of the settings
        read_settings(settings)

    def _work(self, request: BuildRequest) -> WorkflowRuns | BranchBuilds:
        settings = read_settings(request.provider_settings)
        credential = self._credential(request, settings)
        hide = request.secrets.values()
        repository = Repository(self._http, credential, settings.owner, settings.repo, hide)
        if isinstance(settings, WorkflowSettings):
            return WorkflowRuns(repository, settings.workflow, request, self._pace)
        return BranchBuilds(repository, request, self._pace)

    def _credential(self, request: BuildRequest, settings: WorkflowSettings | BranchSettings) -> Credential:
        token = request.secrets.get(SECRET) or self._token
        if token:
            return PersonalToken(token)
        if self._app is not None:
            return self._app.on(self._http, settings.owner, settings.repo)
        raise DeploymentError(
            ErrorCode.INSUFFICIENT_PERMISSIONS,
            f"there is no credential for GitHub: accepted are the project's secret {SECRET}, and the operator's"
            " HEADWAY_GITHUB_TOKEN, or HEADWAY_GITHUB_APP_ID with HEADWAY_GITHUB_APP_KEY",
        )
