"""The steps at a provider, on a real database: taken over once, written down in order, whoever dies meanwhile."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import builds
from activities.builds import BuildActivities
from activities.steps import BuildStep, StartBuild
from domain.build import Build, BuildRequest
from domain.deployment import Deployment, Repository, TriggerDeploymentRequest
from domain.errors import DeploymentError, ErrorCode
from domain.log import DeploymentLog, LogFilter, LogLine
from domain.project import CreateProjectRequest
from domain.result import BuildReport, Failure
from domain.states import Status
from providers.base import BuildNews, Capability, Provider, Publication
from providers.health import AddressChecks
from store.database import Database
from store.deployments import DeploymentStore
from store.events import EventStore
from store.limits import TriggerLimiter
from store.logs import LogStore
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.seal import Sealer
from tests.servers import eventually

LINES = 20


class Scripted(Provider):
    """A provider whose builds say twenty lines, `at_a_time`, and end as `failure` says."""

    name = "scripted"
    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    def __init__(
        self, at_a_time: int = 3, failure: Failure | None = None, url: str = "https://shop.example.org/"
    ) -> None:
        self.at_a_time = at_a_time
        self.url = url
        self.failure = failure
        self.running: set[str] = set()
        self.asked: list[BuildRequest] = []
        self.away: DeploymentError | None = None
        self.history: bool | DeploymentError | None = None
        self.waits: str | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def start_build(self, request: BuildRequest) -> Build:
        if self.away is not None:
            raise self.away
        self.asked.append(request)
        self.running.add(request.deployment_id)
        await self.go_on.wait()
        return Build(
            deployment_id=request.deployment_id,
            project_id="shop",
            environment="production",
            build_id="b1",
            task_queue="q",
        )

    async def find_build(self, request: BuildRequest) -> Build | None:
        return request.build("b1") if request.deployment_id in self.running else None

    async def follow_build(self, request: BuildRequest, build: Build, cursor: str) -> AsyncGenerator[BuildNews, None]:
        repository = Repository(url="https://x/y", branch="main", commit="f" * 40)
        told = int(cursor or 0)
        while told < LINES:
            upto = min(LINES, told + self.at_a_time)
            lines = [_line(f"line {number} npm-secret operators-own") for number in range(told + 1, upto + 1)]
            told = upto
            yield BuildNews(cursor=str(told), lines=lines, stage="building", repository=repository, waiting=self.waits)
            await asyncio.sleep(0)
        yield BuildNews(cursor=str(told), stage="failed" if self.failure else "built", failure=self.failure)

    async def cancel_build(self, request: BuildRequest, build: Build) -> None:
        self.running.discard(build.deployment_id)

    async def publish_build(self, request: BuildRequest, build: Build) -> Publication:
        return Publication(deployment_url=self.url, lines=[_line("published", source="deploy")])

    async def resolve_commit(self, request: BuildRequest) -> str | None:
        return "c" * 40

    async def has_in_history(self, request: BuildRequest, commit: str) -> bool | None:
        if isinstance(self.history, DeploymentError):
            raise self.history
        return self.history

    async def collect_report(self, request: BuildRequest, build: Build) -> BuildReport:
        return BuildReport(artifact_id="sha256:1")


def _line(message: str, **fields: Any) -> LogLine:
    return LogLine(datetime.now(UTC), message, **fields)


class Bench:
    """A deployment that was accepted, and the steps at its provider."""

    def __init__(self, database: Database, sealer: Sealer, provider: Scripted) -> None:
        self.deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 10))
        self.logs = LogStore(database, sealer)
        self.events = EventStore(database)
        self.provider = provider
        checks = AddressChecks(allow_private_addresses=True)
        progress = ProgressStore(database, sealer)
        self.steps = BuildActivities({"scripted": provider}, progress, self.logs, checks, ["operators-own"])
        self.deployment: Deployment

    async def accept(self, projects: ProjectStore, **more: Any) -> "Bench":
        configuration = {"secrets": {"NPM_TOKEN": "npm-secret"}, **more}
        project = CreateProjectRequest.model_validate(
            {"id": "shop", "provider": "scripted", "configuration": configuration}
        )
        await projects.create_project(project, "ada")
        request = TriggerDeploymentRequest(project_id="shop", source_ref="main")
        self.deployment = (await self.deployments.trigger(request, "ada")).answer
        return self

    async def start(self) -> BuildStep:
        step = StartBuild(deployment_id=self.deployment.id, provider="scripted", build_timeout_seconds=60)
        build = await ActivityEnvironment().run(self.steps.start_build, step)
        return BuildStep(build=build, provider="scripted", build_timeout_seconds=60)

    async def log(self) -> list[DeploymentLog]:
        return (await self.logs.page(self.deployment.id, LogFilter(), limit=1000)).lines

    async def now(self) -> Deployment:
        return await self.deployments.get(self.deployment.id)


@pytest.fixture
async def bench(database: Database, sealer: Sealer) -> Bench:
    return await Bench(database, sealer, Scripted()).accept(ProjectStore(database, sealer))


async def test_starting_hands_the_secrets_over_and_writes_the_build_down(bench: Bench) -> None:
    await bench.start()
    now = await bench.now()
    assert (now.status, now.build_id) == (Status.INITIALIZING, "b1")
    assert bench.provider.asked[0].secrets == {"NPM_TOKEN": "npm-secret"}


async def test_a_provider_that_is_away_is_waited_for_and_the_deployment_says_why(bench: Bench) -> None:
    bench.provider.away = DeploymentError(ErrorCode.PROVIDER_ERROR, "scripted answers 503", retry_after_seconds=7)
    with pytest.raises(ApplicationError) as failed:
        await bench.start()
    assert (failed.value.non_retryable, failed.value.next_retry_delay) == (False, timedelta(seconds=7))
    now = await bench.now()
    assert (now.waiting_on, now.waiting_reason) == ("provider", "scripted answers 503")
    bench.provider.away = None
    await bench.start()
    assert (await bench.now()).waiting_on is None


async def test_secrets_that_do_not_open_are_waited_for_and_the_deployment_says_why(
    bench: Bench, database: Database
) -> None:
    steps = BuildActivities(
        {"scripted": bench.provider},
        ProgressStore(database, Sealer(f"other:{'A' * 43}=")),
        bench.logs,
        AddressChecks(allow_private_addresses=True),
    )
    bench.steps, mended = steps, bench.steps
    with pytest.raises(ApplicationError) as failed:
        await bench.start()
    assert not failed.value.non_retryable
    now = await bench.now()
    assert "lacks key 'test'; put it back into HEADWAY_SECRET_KEYS" in (now.waiting_reason or "")
    bench.steps = mended
    await bench.start()
    assert (await bench.now()).waiting_on is None


async def test_what_the_provider_lets_it_wait_for_is_shown_while_it_does(bench: Bench) -> None:
    bench.provider.waits = "it is in the provider's queue"
    step = await bench.start()
    bench.provider.at_a_time = 0
    following = asyncio.ensure_future(ActivityEnvironment().run(bench.steps.follow_build, step))

    async def waits() -> bool:
        return (await bench.now()).waiting_reason == "it is in the provider's queue"

    await eventually(waits)
    bench.provider.waits = None
    bench.provider.at_a_time = LINES
    await following
    assert (await bench.now()).waiting_on is None


async def test_following_takes_every_line_over_once_masked_and_in_order(bench: Bench) -> None:
    step = await bench.start()
    outcome = await ActivityEnvironment().run(bench.steps.follow_build, step)
    assert outcome.stage == "built"
    assert [line.message for line in await bench.log()] == [f"line {number} *** ***" for number in range(1, LINES + 1)]
    now = await bench.now()
    assert (now.status, now.commit_sha) == (Status.BUILDING, "f" * 40)


async def test_two_workers_that_follow_at_once_store_each_line_once(bench: Bench) -> None:
    """A worker whose heartbeat came late follows on beside the one that has taken over."""
    step = await bench.start()
    outcomes = await asyncio.gather(
        *(asyncio.wait_for(ActivityEnvironment().run(bench.steps.follow_build, step), 20) for _ in range(3))
    )
    assert {outcome.stage for outcome in outcomes} == {"built"}
    assert [line.message for line in await bench.log()] == [f"line {number} *** ***" for number in range(1, LINES + 1)]


async def test_an_operator_sees_the_last_lines_without_secrets(bench: Bench) -> None:
    beats: list[object] = []
    environment = ActivityEnvironment()
    environment.on_heartbeat = lambda *details: beats.append(details[0])
    await environment.run(bench.steps.follow_build, await bench.start())
    assert beats[-1] == {
        "stage": "built",
        "step": None,
        "cursor": "20",
        "lastLines": [f"line {n} *** ***" for n in (18, 19, 20)],
    }


async def test_a_failure_is_told_without_secrets(database: Database, sealer: Sealer) -> None:
    failure = Failure(code=ErrorCode.BUILD_FAILED, message="npm-secret is wrong", log_excerpt=["x npm-secret"])
    bench = await Bench(database, sealer, Scripted(failure=failure)).accept(ProjectStore(database, sealer))
    outcome = await ActivityEnvironment().run(bench.steps.follow_build, await bench.start())
    assert outcome.failure is not None
    assert (outcome.failure.message, outcome.failure.log_excerpt) == ("*** is wrong", ["x ***"])


async def test_a_build_that_is_overdue_is_told_as_timeout(bench: Bench) -> None:
    step = (await bench.start()).model_copy(update={"build_timeout_seconds": 0.0})
    outcome = await ActivityEnvironment().run(bench.steps.follow_build, step)
    assert outcome.stage == "timeout"
    assert outcome.failure is not None
    assert outcome.failure.code == ErrorCode.TIMEOUT


async def test_canceling_stops_the_build_and_takes_its_last_lines_over(bench: Bench) -> None:
    step = await bench.start()
    await ActivityEnvironment().run(bench.steps.cancel_build, step)
    assert bench.provider.running == set()
    assert len(await bench.log()) == LINES


async def test_publishing_twice_says_its_lines_once(bench: Bench) -> None:
    step = await bench.start()
    for _ in range(2):
        await ActivityEnvironment().run(bench.steps.publish_build, step)
    assert [line.message for line in await bench.log()] == ["published"]
    now = await bench.now()
    assert (now.status, now.deployment_url) == (Status.DEPLOYING, "https://shop.example.org/")


@pytest.mark.parametrize(("wanted", "well"), [(404, True), (200, False)])
async def test_what_is_published_is_checked_and_counts_as_live_either_way(
    database: Database, sealer: Sealer, wanted: int, well: bool
) -> None:
    async def absent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(absent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    check = {"healthCheck": {"status": wanted, "timeoutSeconds": 1}}
    bench = await Bench(database, sealer, Scripted(url=url)).accept(ProjectStore(database, sealer), **check)
    step = await bench.start()
    for _ in range(2):  # as after a worker's death
        if well:
            await ActivityEnvironment().run(bench.steps.publish_build, step)
        else:
            with pytest.raises(ApplicationError, match="status 404, wanted status 200") as failed:
                await ActivityEnvironment().run(bench.steps.publish_build, step)
            assert failed.value.non_retryable
    server.close()
    [_, told] = await bench.log()
    assert (told.step, told.source, told.level) == ("healthCheck", "deploy", "info" if well else "error")
    assert (await bench.now()).deployment_url == url


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (True, {"descends": True, "why": ""}),
        (None, {"descends": False, "why": ""}),  # the provider has no way to say
        (DeploymentError(ErrorCode.INVALID_REQUEST, "no such address"), {"descends": None, "why": "no such address"}),
    ],
)
async def test_while_a_commit_is_held_the_pin_finds_out_whether_it_is_in_the_history(
    bench: Bench, database: Database, answer: bool | DeploymentError | None, known: dict[str, Any]
) -> None:
    step = StartBuild(deployment_id=bench.deployment.id, provider="scripted", build_timeout_seconds=60)
    read = "select commit_sha, descent from deployments"
    bench.provider.history = answer
    await ActivityEnvironment().run(bench.steps.pin_commit, step)
    assert await database.fetch_all(read) == [{"commit_sha": "c" * 40, "descent": None}]
    await database.fetch_all("update environments set held_ref = 'x', held_commit = 'bad' returning id")
    await ActivityEnvironment().run(bench.steps.pin_commit, step)
    told = {"held": "bad", "commit": "c" * 40, **known}
    assert await database.fetch_all(read) == [{"commit_sha": "c" * 40, "descent": told}]


async def test_a_repository_that_is_away_is_asked_again_before_people_decide(bench: Bench, database: Database) -> None:
    step = StartBuild(deployment_id=bench.deployment.id, provider="scripted", build_timeout_seconds=60)
    await database.fetch_all("update environments set held_ref = 'x', held_commit = 'bad' returning id")
    bench.provider.history = DeploymentError(ErrorCode.PROVIDER_ERROR, "it is away")
    for attempt in range(1, builds.ASK_TIMES):
        environment = ActivityEnvironment()
        environment.info = dataclasses.replace(environment.info, attempt=attempt)
        with pytest.raises(ApplicationError, match="it is away"):
            await environment.run(bench.steps.pin_commit, step)
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, attempt=builds.ASK_TIMES)
    await environment.run(bench.steps.pin_commit, step)
    [row] = await database.fetch_all("select descent from deployments")
    assert (row["descent"]["descends"], row["descent"]["why"]) == (None, "it is away")


async def test_a_start_that_has_begun_is_carried_through_a_cancel(bench: Bench) -> None:
    environment = ActivityEnvironment()
    step = StartBuild(deployment_id=bench.deployment.id, provider="scripted", build_timeout_seconds=60)
    bench.provider.go_on.clear()
    running = asyncio.ensure_future(environment.run(bench.steps.start_build, step))
    while not bench.provider.asked:
        await asyncio.sleep(0.01)
    environment.cancel()
    await asyncio.sleep(0.05)
    bench.provider.go_on.set()
    assert (await running).build_id == "b1"


async def test_a_start_that_takes_too_long_is_given_up_before_the_next_one_begins(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "START_SECONDS", 0.05)
    bench.provider.go_on.clear()
    with pytest.raises(ApplicationError, match=r"scripted has not started a build within 0\.05 s") as failed:
        await bench.start()
    assert (failed.value.non_retryable, failed.value.next_retry_delay) == (False, timedelta(seconds=10))
    assert (await bench.now()).waiting_on == "provider"


async def test_a_build_that_was_not_heard_of_is_found_and_written_down(bench: Bench) -> None:
    step = StartBuild(deployment_id=bench.deployment.id, provider="scripted", build_timeout_seconds=60)
    assert await ActivityEnvironment().run(bench.steps.find_build, step) is None
    bench.provider.running.add(bench.deployment.id)
    found = await ActivityEnvironment().run(bench.steps.find_build, step)
    assert found is not None
    assert found.build_id == (await bench.now()).build_id == "b1"


async def test_what_is_to_be_canceled_starts_no_build(bench: Bench) -> None:
    """Its workflow has not heard of it yet."""
    await bench.deployments.request_cancel(bench.deployment.id, "ada")
    with pytest.raises(ApplicationError, match="is to be canceled"):
        await bench.start()
    assert bench.provider.asked == []


async def test_a_provider_that_is_not_here_is_a_plain_refusal(bench: Bench) -> None:
    step = StartBuild(deployment_id=bench.deployment.id, provider="acme", build_timeout_seconds=60)
    with pytest.raises(ApplicationError, match="no provider 'acme'; it has scripted") as refused:
        await ActivityEnvironment().run(bench.steps.start_build, step)
    assert refused.value.non_retryable


async def test_following_is_canceled_at_once(bench: Bench) -> None:
    bench.provider.at_a_time = 0  # says nothing, for ever
    environment = ActivityEnvironment()
    running = asyncio.ensure_future(environment.run(bench.steps.follow_build, await bench.start()))
    await asyncio.sleep(0.1)
    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, timedelta(seconds=5).total_seconds())
