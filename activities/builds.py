"""The steps at a provider: start a build, follow it, publish it, cancel it, collect what it left.

Rule: each step may run twice, on another worker, after it had succeeded. Whatever it learns it writes down itself, so
that what is known and what is recorded commit together and a workflow's history does not grow with a build.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from temporalio import activity

from activities.failures import failing_plainly
from activities.heartbeat import beating, carried_through
from activities.pump import ASIDE_STREAM, CHECK_STREAM, LogPump
from activities.steps import BuildOutcome, BuildStep, RestoreBuild, StartBuild
from domain.build import Build, BuildRequest
from domain.descent import Descent
from domain.errors import DeploymentError, ErrorCode
from domain.fence import Overtaken
from domain.health import HealthCheck
from domain.log import LogLevel, LogLine
from domain.result import BuildReport, Failure
from domain.states import Status
from providers.base import BuildNews, Capability, Provider, Publication

if TYPE_CHECKING:
    from store.logs import LogStore
    from store.progress import ProgressStore

DRAIN_SECONDS = 10
"""How long a canceled build's last lines are waited for."""
START_SECONDS = 110
"""What one attempt to start a build has. Less than Temporal gives it: the next one must not begin beside it."""
AGAIN_SECONDS = 10
"""Before it is tried again: what was under way then is to be seen by whoever looks first."""

ASK_TIMES = 3
"""How often a repository that is away is asked for a history; then it is not known, and people decide."""
LONGEST_WHY = 300

STATUS_OF_STAGE = {"building": Status.BUILDING, "built": Status.BUILDING}
"""How far a deployment is while its build is in a stage; the others say nothing new."""


_AWAY = frozenset({ErrorCode.PROVIDER_ERROR, ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL})


class Checks(Protocol):
    """Who asks an address whether it is well."""

    async def check(self, wanted: HealthCheck, publication: Publication) -> LogLine: ...


class BuildActivities:
    def __init__(
        self,
        providers: Mapping[str, Provider],
        progress: "ProgressStore",
        logs: "LogStore",
        checks: Checks,
        hidden: Iterable[str] = (),
    ) -> None:
        """`hidden` are credentials of the service itself: no log shows them."""
        self._providers = providers
        self._checks = checks
        self._progress = progress
        self._logs = logs
        self._hidden = [*hidden]

    @activity.defn
    @beating
    @carried_through
    @failing_plainly
    async def start_build(self, step: StartBuild) -> Build:
        """Asks the provider for the build of this deployment; the one that is there counts."""
        deployment = await self._progress.reach(step.deployment_id, Status.INITIALIZING)
        if deployment.cancel_requested_at is not None:  # which the workflow has not heard yet
            raise Overtaken(f"deployment {deployment.id} is to be canceled")
        request = await self._request_of(step.deployment_id, step.build_timeout_seconds)
        async with (
            self._waiting(step.deployment_id),
            _within(START_SECONDS, f"{step.provider} has not started a build"),
        ):
            build = await self._provider(step.provider).start_build(request)
        await self._progress.note_build(build)
        return build

    @activity.defn
    @beating
    @failing_plainly
    async def find_build(self, step: StartBuild) -> Build | None:
        """The build that the provider has for this deployment, where it was not heard what came of its start."""
        request = await self._progress.build_request(step.deployment_id, timedelta())
        async with self._waiting(step.deployment_id):
            build = await self._provider(step.provider).find_build(request)
        if build is not None:
            await self._progress.note_build(build)
        return build

    @activity.defn
    @failing_plainly
    async def follow_build(self, step: BuildStep) -> BuildOutcome:
        """Takes the log over and writes the stages down until the build has ended, or its time has run out."""
        request = await self._request(step)
        try:
            async with asyncio.timeout((request.deadline - datetime.now(UTC)).total_seconds()) as deadline:
                return await self._follow(step, request)
        except TimeoutError:
            if deadline.expired():
                return _overdue(step)
            raise

    @activity.defn
    @beating
    @failing_plainly
    async def cancel_build(self, step: BuildStep) -> BuildOutcome | None:
        """Returns when the provider says that the build no longer runs; its last lines are in the log then.

        How it ended, which may have been before; None where the provider does not say it soon.
        """
        request, provider = await self._request(step), self._provider(step.provider)
        async with self._waiting(request.deployment_id):
            await provider.cancel_build(request, step.build)
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                outcome = await self._follow(step, request)
        except TimeoutError:
            return None
        live = outcome.stage == "built" and provider.publishes_itself(request)
        return outcome.model_copy(update={"live": live})

    @activity.defn
    @beating
    @carried_through
    @failing_plainly
    async def publish_build(self, step: BuildStep) -> None:
        """Makes what was built reachable, writes down where, and returns once it is as well as was asked for."""
        deployment_id = step.build.deployment_id
        await self._progress.reach(deployment_id, Status.DEPLOYING)
        request = await self._request(step)
        turn = await self._to_publish(request)
        provider = self._provider(step.provider)
        async with self._waiting(deployment_id):
            if turn is None:
                publication = await provider.publish_aside(request, step.build)
            else:
                publication = await provider.publish_build(turn, step.build)
        await self._announce(request, publication, live=turn is not None)

    @activity.defn
    @beating
    @failing_plainly
    async def pin_commit(self, step: StartBuild) -> None:
        """Fixes what the ref means now, where the provider can say it; and whether a held commit is in its history."""
        provider = self._provider(step.provider)
        request = await self._progress.build_request(step.deployment_id, timedelta())
        if request.commit_sha is None and (commit := await provider.resolve_commit(request)) is not None:
            await self._progress.pin_commit(step.deployment_id, commit)
            request = request.model_copy(update={"commit_sha": commit})
        held = await self._progress.held_commit(step.deployment_id)
        if held is not None:
            await self._progress.note_descent(step.deployment_id, await _descent(provider, request, held))

    @activity.defn
    @beating
    @carried_through
    @failing_plainly
    async def restore_build(self, step: RestoreBuild) -> bool:
        """Makes what was built before live again; False where that cannot be, and it has to be built anew."""
        provider = self._provider(step.provider)
        if Capability.REPOINT not in provider.capabilities:
            return False
        await self._progress.reach(step.deployment_id, Status.INITIALIZING)
        request = await self._to_publish(await self._request_of(step.deployment_id, 0))
        if request is None:
            return True
        try:
            async with self._waiting(step.deployment_id):
                publication = await provider.repoint(request, step.build)
        except DeploymentError as error:
            if error.retryable:
                raise
            activity.logger.info("deployment %s is built anew: %s", step.deployment_id, error.message)
            return False
        await self._announce(request, publication)
        return True

    @activity.defn
    @beating
    @failing_plainly
    async def collect_result(self, step: BuildStep) -> BuildReport:
        """The figures of an ended build."""
        return await self._provider(step.provider).collect_report(await self._request(step), step.build)

    async def _to_publish(self, request: BuildRequest) -> BuildRequest | None:
        """With the number of this attempt, which comes after all that the environment has seen.

        None when something newer is live, over which this one does not go out.
        """
        number = await self._progress.begin_publication(request.deployment_id)
        if number is None:
            message = "something newer is live: this deployment stays at its own address"
            said = LogLine(datetime.now(UTC), message, "publish", "deploy", level=LogLevel.WARN)
            await self._pump(request).publish([said], ASIDE_STREAM)
            return None
        check = functools.partial(self._progress.check_publication, request.deployment_id, number)
        return request.to_publish(number, check)

    async def _announce(self, request: BuildRequest, publication: Publication, *, live: bool = True) -> None:
        """Writes down where the deployment is reached; from then on one that is live counts as such, well or not."""
        await self._pump(request).publish(publication.lines)
        await self._progress.reach(
            request.deployment_id,
            Status.DEPLOYING,
            deployment_url=publication.deployment_url,
            preview_urls=publication.preview_urls,
        )
        if live and request.configuration.health_check is not None:
            await self._check(request, request.configuration.health_check, publication)

    async def _check(self, request: BuildRequest, wanted: HealthCheck, publication: Publication) -> None:
        try:
            line = await self._checks.check(wanted, publication)
        except DeploymentError as error:
            said = LogLine(datetime.now(UTC), error.message, "healthCheck", "deploy", level=LogLevel.ERROR)
            await self._pump(request).publish([said], CHECK_STREAM)
            raise
        await self._pump(request).publish([line], CHECK_STREAM)

    @contextlib.asynccontextmanager
    async def _waiting(self, deployment_id: str) -> AsyncIterator[None]:
        """While Temporal tries again what cannot be done now, the deployment says why it waits."""
        try:
            yield
        except DeploymentError as error:
            if error.code in _AWAY:
                with contextlib.suppress(DeploymentError):
                    await self._progress.wait_for_provider(deployment_id, error.message)
            raise

    def _provider(self, name: str) -> Provider:
        try:
            return self._providers[name]
        except KeyError:
            known = ", ".join(sorted(self._providers))
            message = f"this service has no provider {name!r}; it has {known}"
            raise DeploymentError(ErrorCode.INVALID_REQUEST, message) from None

    async def _request(self, step: BuildStep) -> BuildRequest:
        return await self._request_of(step.build.deployment_id, step.build_timeout_seconds)

    async def _request_of(self, deployment_id: str, build_timeout_seconds: float) -> BuildRequest:
        """One whose secrets cannot be opened now waits for that, too."""
        async with self._waiting(deployment_id):
            return await self._progress.build_request(deployment_id, timedelta(seconds=build_timeout_seconds))

    def _pump(self, request: BuildRequest) -> LogPump:
        return LogPump(self._logs, request.deployment_id, [*request.secrets.values(), *self._hidden])

    async def _follow(self, step: BuildStep, request: BuildRequest) -> BuildOutcome:
        provider = self._provider(step.provider)
        pump = self._pump(request)
        written = None
        stored = pump.stored(lambda cursor: provider.follow_build(request, step.build, cursor))
        async with self._waiting(request.deployment_id), aclosing(stored) as told:
            async for news in told:
                if activity.is_cancelled():  # also where somebody below took the cancel for done
                    raise asyncio.CancelledError
                if written != (written := (news.stage, news.repository, news.waiting)):
                    await self._write_down(request.deployment_id, news)
        return BuildOutcome(stage=news.stage, failure=news.failure)

    async def _write_down(self, deployment_id: str, news: BuildNews) -> None:
        if news.repository is not None:
            await self._progress.note_repository(deployment_id, news.repository)
        status = STATUS_OF_STAGE.get(news.stage, Status.INITIALIZING)
        await self._progress.reach(deployment_id, status, waiting=news.waiting)


async def _descent(provider: Provider, request: BuildRequest, held: str) -> Descent:
    """A provider without a way to say it holds the ref and the commit alone."""
    known = Descent(held=held, commit=request.commit_sha)
    try:
        return known.model_copy(update={"descends": await provider.has_in_history(request, held) or False})
    except DeploymentError as error:
        if error.retryable and activity.info().attempt < ASK_TIMES:
            raise
        return known.model_copy(update={"why": error.message[:LONGEST_WHY]})


@contextlib.asynccontextmanager
async def _within(seconds: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        message = f"{what} within {seconds:g} s"
        raise DeploymentError(ErrorCode.UNAVAILABLE, message, retry_after_seconds=AGAIN_SECONDS) from None


def _overdue(step: BuildStep) -> BuildOutcome:
    message = f"the build did not end within {step.build_timeout_seconds:g} s"
    return BuildOutcome(
        stage="timeout", failure=Failure(code=ErrorCode.TIMEOUT, message=message, phase=Status.BUILDING, retryable=True)
    )
