"""The `vercel` provider: starts a deployment at Vercel, follows it, makes it live, and an earlier one live again.

Rules:
1. Our deployment id is in `meta`, which Vercel gives back: one intent is one deployment there.
2. Variables go through the project's environment variables, never with the deployment.
3. What is live is what the project says, not what a deployment once was.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from domain.errors import DeploymentError, ErrorCode
from domain.ids import made_at
from domain.log import LogLine
from domain.result import BuildReport, DeploymentMetrics, DeploymentWarning
from providers.base import Build, BuildNews, BuildRequest, Capability, Provider, Publication
from providers.http import Ambiguous, Call, Http, Options, Params, link, plain
from providers.vercel.api import Api
from providers.vercel.asked import ID, check, deployment_of, variables_of
from providers.vercel.calls import (
    CANCEL,
    CREATE,
    LIST,
    PROMOTE,
    ROLL_BACK,
    SET_VARIABLES,
    Deployment,
    Listing,
    Project,
    VariablesSet,
)
from providers.vercel.follow import Follower, Pace
from providers.vercel.settings import PRODUCTION, Settings
from providers.vercel.words import verdict
from providers.wake import Watch, unwoken

API_URL = "https://api.vercel.com"
PAGES = 10
CLOCK_SKEW = timedelta(minutes=10)
CANCEL_SECONDS = 90
GONE = frozenset({404, 410})
PUBLISH_SECONDS = 90
"""How long one attempt waits; the next goes on where it stands."""
UNDER_WAY = frozenset({"pending", "in-progress"})
NOT_DONE = frozenset({"failed", "skipped"})
"""What Vercel says of a promote or a rollback."""


class Vercel(Provider):
    """`token` is the operator's, for projects that bring none. `watch` says when there may be news (webhooks)."""

    name: ClassVar[str] = "vercel"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.CANCEL, Capability.LIVE_LOGS, Capability.REPOINT}
    )

    def __init__(
        self,
        token: str | None = None,
        api_url: str = API_URL,
        options: Options | None = None,
        *,
        watch: Watch = unwoken,
        pace: Pace | None = None,
    ) -> None:
        self._token = token
        self._http = Http(self.name, api_url, options)
        self._watch = watch
        self._pace = pace or Pace()

    async def close(self) -> None:
        await self._http.close()

    async def start_build(self, request: BuildRequest) -> Build:
        """Looks, creates, and looks again where it did not hear how that ended.

        Vercel's list may lag behind what it has made. So who finds nothing after an unknown outcome fails, and is
        tried again ten seconds later or more (`Ambiguous`); and a create without `forceNew` gives back a deployment
        that is alike and still there, so that even a list that lags longer makes no second one.
        """
        check(request)
        api = Api(self._http, self._token, request)
        build_id = await self._find(api, request)
        if build_id is None:
            await self._set_variables(api, request)
            build_id = await self._create(api, request)
        return request.build(build_id)

    async def find_build(self, request: BuildRequest) -> Build | None:
        build_id = await self._find(Api(self._http, self._token, request), request)
        return None if build_id is None else request.build(build_id)

    async def follow_build(self, request: BuildRequest, build: Build, cursor: str) -> AsyncGenerator[BuildNews, None]:
        api = Api(self._http, self._token, request)
        follower = Follower(api, request, build.build_id, cursor, self._pace)
        async with self._watch(build.deployment_id) as wake, contextlib.aclosing(follower.news(wake)) as all_news:
            async for news in all_news:
                yield news

    async def cancel_build(self, request: BuildRequest, build: Build) -> None:
        """Whatever Vercel answers: what counts is what the deployment says afterwards."""
        api = Api(self._http, self._token, request)
        until = time.monotonic() + CANCEL_SECONDS
        while time.monotonic() < until:
            deployment = await api.deployment(build.build_id)
            if deployment is not None and (deployment.word == "READY" or verdict(deployment).final):
                return
            answer = await api.call(CANCEL, id=build.build_id)
            if deployment is None and answer.status in GONE:
                return
            await asyncio.sleep(self._pace.soonest)
        message = f"vercel has not stopped the deployment within {CANCEL_SECONDS} s"
        raise DeploymentError(ErrorCode.UNAVAILABLE, message, retry_after_seconds=5)

    def publishes_itself(self, request: BuildRequest) -> bool:
        del request
        return True

    async def publish_build(self, request: BuildRequest, build: Build) -> Publication:
        """Vercel publishes by itself, unless the project assigns no domains (as after a rollback): then promotes."""
        api = Api(self._http, self._token, request)
        deployment = await self._deployment(api, build)
        if deployment.ready_substate == "STAGED":
            await self._move_domains(api, build, PROMOTE)
            deployment = await self._deployment(api, build)
        return self._publication(api, deployment, f"{build.build_id} has been published by vercel")

    async def repoint(self, request: BuildRequest, build: Build) -> Publication:
        """Rolls back to what has been live, promotes what has not; a preview keeps its own address anyway.

        After a rollback Vercel leaves new deployments staged: `publish_build` promotes them, which ends that.
        """
        api = Api(self._http, self._token, request)
        deployment = await self._deployment(api, build)
        if api.target == PRODUCTION:
            await self._move_domains(api, build, ROLL_BACK if deployment.ready_substate == "PROMOTED" else PROMOTE)
            deployment = await self._deployment(api, build)
        return self._publication(api, deployment, f"{build.build_id} is live again at vercel")

    async def collect_report(self, request: BuildRequest, build: Build) -> BuildReport:
        deployment = await Api(self._http, self._token, request).deployment(build.build_id)
        if deployment is None:
            return BuildReport()
        own = link(f"https://{deployment.url}")
        built = deployment.word == "READY"
        warnings = [
            text
            for text, there in (
                (f"vercel warns about the domains: {deployment.alias_warning}", deployment.alias_warning),
                ("vercel skipped the build", deployment.build_skipped),
                (f"vercel reports {deployment.oom_report}", deployment.oom_report),
            )
            if there
        ]
        framework = deployment.project_settings.framework
        return BuildReport(
            metrics=DeploymentMetrics(build_time=_build_seconds(deployment)),
            artifact_id=build.build_id if built else None,
            artifact_urls=[own] if built and own else [],
            framework=plain(framework, 60) if framework else None,
            warnings=[DeploymentWarning(message=plain(text)) for text in warnings],
        )

    @classmethod
    def check_settings(cls, settings: dict[str, Any], repository_url: str | None) -> None:
        del repository_url
        Settings.read(settings)

    async def _find(self, api: Api, request: BuildRequest) -> str | None:
        """The deployment that was made for this request. It cannot be older than the request's id, a UUIDv7."""
        since = int((made_at(request.deployment_id) - CLOCK_SKEW).timestamp() * 1000)
        until: int | None = None
        for _ in range(PAGES):
            params: Params = {"projectId": api.settings.project, "since": since, "until": until, "limit": 100}
            listing = (await api.call(LIST, params=params)).read(Listing)
            found = next((one.uid for one in listing.deployments if one.meta.get(ID) == request.deployment_id), None)
            until = listing.pagination.next
            if found or until is None:
                return found
        raise DeploymentError(
            ErrorCode.PROVIDER_ERROR, f"vercel lists more than {PAGES * 100} deployments since this one was asked for"
        )

    async def _set_variables(self, api: Api, request: BuildRequest) -> None:
        body = variables_of(request, api.target)
        if not body:
            return
        answer = await api.call(SET_VARIABLES, project=api.settings.project, params={"upsert": "true"}, json=body)
        failed = [not_set.error for not_set in answer.read(VariablesSet).failed]
        if failed:
            told = ", ".join(plain(f"{one.env_var_key or one.key or '?'} ({one.code})", 80) for one in failed[:10])
            raise DeploymentError(ErrorCode.INVALID_REQUEST, f"vercel refuses variables: {told}")

    async def _create(self, api: Api, request: BuildRequest) -> str:
        body = deployment_of(request, api.settings, api.target)
        for force_new in (None, "1"):
            params = {"skipAutoDetectionConfirmation": "1", "forceNew": force_new}
            try:
                made = (await api.call(CREATE, params=params, json=body)).read(Deployment)
            except Ambiguous as unknown:
                found = None
                with contextlib.suppress(DeploymentError):
                    found = await self._find(api, request)
                if found is None:
                    raise unknown from None
                return found
            if made.meta.get(ID) == request.deployment_id:
                return made.id
            # It gave back one that is alike, made for somebody else: nothing is new yet.
        message = f"vercel does not say whose deployment it made: {ID} is missing from its meta"
        raise DeploymentError(ErrorCode.BUILD_FAILED, message)

    async def _deployment(self, api: Api, build: Build) -> Deployment:
        deployment = await api.deployment(build.build_id)
        if deployment is None:
            message = f"vercel has no deployment {build.build_id} any more; deploy its commit again"
            raise DeploymentError(ErrorCode.DEPLOY_FAILED, message)
        return deployment

    async def _move_domains(self, api: Api, build: Build, how: Call) -> None:
        """Asks until the project says that it is done. Vercel moves domains beside, one request at a time."""
        until = time.monotonic() + PUBLISH_SECONDS
        before = _requested_at(await api.project(), build)
        asked = False
        while time.monotonic() < until:
            project = await api.project()
            if project.live == build.build_id:
                return
            job = project.last_alias_request
            ours = job is not None and job.to_deployment_id == build.build_id
            if asked and job is not None and ours and job.job_status in NOT_DONE and job.requested_at != before:
                message = f"vercel could not {how.what}: it says {job.job_status}"
                raise DeploymentError(ErrorCode.DEPLOY_FAILED, message)
            if not asked and not (job is not None and job.job_status in UNDER_WAY):
                await api.check_turn()
                answer = await api.call(how, json={}, project=api.settings.project, id=build.build_id)
                asked = answer.status != 409  # done already, or another is under way: what the project says decides
            await asyncio.sleep(self._pace.look or 1.0)
        message = "vercel has not moved the domains yet"
        raise DeploymentError(ErrorCode.UNAVAILABLE, message, retry_after_seconds=5)

    @staticmethod
    def _publication(api: Api, deployment: Deployment, message: str) -> Publication:
        own = link(f"https://{deployment.url}")
        others = [url for name in _by_importance(deployment.alias) if (url := link(f"https://{name}"))]
        first, *rest = (*others, own) if api.target == PRODUCTION else (own, *others)
        line = LogLine(timestamp=datetime.now(UTC), message=message, step="publish", source="deploy")
        return Publication(deployment_url=first, preview_urls=[url for url in rest if url], lines=[line])


def _requested_at(project: Project, build: Build) -> float | None:
    job = project.last_alias_request
    return job.requested_at if job and job.to_deployment_id == build.build_id else None


def _by_importance(names: list[str]) -> list[str]:
    """A project's own domains before those that Vercel gives it, short ones first."""
    return sorted(names[:100], key=lambda name: (name.endswith(".vercel.app"), len(name), name))


def _build_seconds(deployment: Deployment) -> float:
    ended = deployment.ready or deployment.build_error_at or deployment.canceled_at
    if deployment.building_at is None or ended is None:
        return 0
    return max(0.0, (ended - deployment.building_at).total_seconds())
