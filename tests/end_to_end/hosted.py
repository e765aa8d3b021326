"""The service in this process, with real workers, and hosted providers that are stand-ins behind doors.

A door that is shut refuses connections and cuts those that are there. Builds hold still in different stages until
`goes_on` is set, so that an outage finds them there.
"""

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from temporalio.client import Client

import worker
from activities.builds import BuildActivities
from activities.environments import EnvironmentActivities
from activities.maintenance import LogActivities, MaintenanceActivities
from activities.reconcile import ReconcileActivities
from activities.records import RecordActivities
from domain.deployment import Deployment, TriggerDeploymentRequest, workflow_id
from domain.log import LogFilter
from domain.project import CreateEnvironmentRequest, CreateProjectRequest
from domain.states import Status
from providers.breaker import Breaker, Breakers
from providers.github_pages import pace as github_pace
from providers.github_pages.provider import GithubPages
from providers.health import AddressChecks
from providers.http import Options
from providers.netlify import pace as netlify_pace
from providers.netlify.provider import Netlify
from providers.vercel import follow as vercel_pace
from providers.vercel.provider import Vercel
from store.database import Database
from store.deployments import DeploymentStore
from store.environments import EnvironmentStore
from store.gate import GateStore
from store.limits import TriggerLimiter
from store.listener import Listener
from store.log_upkeep import Keep, LogUpkeep
from store.logs import LogStore
from store.outbox import Outbox
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.pushes import PushStore
from store.reconciliation import ReconciliationStore
from store.seal import Sealer
from store.webhooks import WebhookStore
from tests.doors import Door
from tests.providers.github_stand_in import OWNER, REPO, WORKFLOW, GithubStandIn
from tests.providers.netlify_stand_in import SITE, NetlifyStandIn
from tests.providers.netlify_stand_in import TOKEN as NETLIFY_TOKEN
from tests.providers.netlify_stand_in import Made as NetlifyMade
from tests.providers.stand_in import Fault, StandIn
from tests.providers.vercel_stand_in import PROJECT, VercelStandIn, now
from tests.providers.vercel_stand_in import TOKEN as VERCEL_TOKEN
from tests.providers.vercel_stand_in import Made as VercelMade
from tests.servers import eventually
from workflows.control import DeploymentWorkflows, connect
from workflows.dispatch import Dispatcher, WebhookCourier
from workflows.oversight import Oversight

LINES = 20
"""What a build says; GitHub's says what its stand-in has."""
ALWAYS = 10**9
PROVIDERS = ("vercel", "github-pages", "netlify")
_SETTINGS: dict[str, dict[str, Any]] = {
    "vercel": {"projectId": PROJECT, "gitSource": {"type": "github", "org": "acme", "repo": "shop"}},
    "github-pages": {"owner": OWNER, "repo": REPO, "mode": "workflow", "workflow": WORKFLOW},
    "netlify": {"siteId": SITE, "mode": "git"},
}
CREATES = {"vercel": "/v13/deployments$", "github-pages": "/dispatches$", "netlify": "/builds$"}


@dataclass
class Chaos(Fault):
    """A share of all calls fails, in all ways."""

    share: float = 0.3
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def fits(self, method: str, path: str) -> bool:
        self.kind = self.chance.choice(("status", "reset", "lost", "slow"))
        self.status = self.chance.choice((500, 502, 503))
        return self.chance.random() < self.share


class Held(StandIn):
    """A stand-in whose builds hold still until `goes_on` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = asyncio.Event()


class HeldVercel(Held, VercelStandIn):
    """A preview holds while it is queued, while it builds, or once it is built; production while it is published."""

    def __init__(self) -> None:
        super().__init__()
        self.assigns_domains = False
        self.finds_similar = False  # what was made before is found by looking, or not at all

    async def _live(self, made: VercelMade) -> None:
        stage = 3 if made.production else int(made.id.removeprefix("dpl_")) % 3
        await self._hold(stage == 0)
        made.becomes("BUILDING", buildingAt=now())
        for number in range(LINES):
            await self._hold(stage == 1 and number == LINES // 2)
            made.write(f"line {number}")
        made.becomes("READY", ready=now())
        await self._hold(stage == 2)
        self.goes_live(made)

    async def _hold(self, here: bool) -> None:
        if here:
            await self.goes_on.wait()

    def _move(self) -> None:
        if self.goes_on.is_set():
            super()._move()


class HeldNetlify(Held, NetlifyStandIn):
    """Holds while it builds."""

    def __init__(self) -> None:
        super().__init__()
        self.production_branch = "main"

    async def _live(self, made: NetlifyMade) -> None:
        made.becomes("building")
        for number in range(LINES):
            made.write(f"line {number}")
        await self.goes_on.wait()
        self.is_ready(made)


class HeldGithub(Held, GithubStandIn):
    """Holds in one phase or another of its run."""

    async def _read_run(self, request: Request) -> Response:
        number = request.path_params["run"]
        answer = await super()._read_run(request)
        if not self.goes_on.is_set():
            self.runs[number].phase = min(self.runs[number].phase, number % 3)
        return answer


class Impatient(Breakers):
    """An outage of seconds is to them what one of minutes is to others."""

    def of(self, provider: str, account: str) -> Breaker:
        key = (provider, account)
        return self._all.setdefault(key, Breaker(provider, first_pause=0.2, longest_pause=1))


@dataclass
class Host:
    """A provider's stand-in behind its door."""

    name: str
    stand_in: Held
    door: Door = field(default_factory=Door)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.door.port}"

    def goes_away(self) -> None:
        """With the next build that is asked for: it is made, its answer is lost, and then all calls fail."""
        lost = self.stand_in.fault("lost", "POST", CREATES[self.name])
        self.stand_in.fault("status", status=503, times=ALWAYS, when=lambda: lost.happened > 0)

    def is_away(self) -> None:
        self.stand_in.fault("status", status=503, times=ALWAYS)

    async def comes_back(self) -> None:
        self.stand_in.faults.clear()
        await self.door.open()


@dataclass
class Service:
    hosts: dict[str, Host]
    deployments: DeploymentStore
    logs: LogStore
    webhooks: WebhookStore
    dispatcher: Dispatcher
    control: DeploymentWorkflows
    temporal: Client
    staging: dict[str, str]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def trigger(self, provider: str, *, production: bool = False, **configuration: Any) -> str:
        """The id of a deployment whose workflow runs."""
        ref = "main" if provider == "github-pages" else f"branch-{next(self._numbers)}"
        asked = {"projectId": provider, "sourceRef": ref, "configuration": configuration}
        where = {} if production else {"environmentId": self.staging[provider]}
        request = TriggerDeploymentRequest.model_validate({**asked, **where})
        deployment = (await self.deployments.trigger(request, "ada")).answer
        await self.control.start(deployment)
        return deployment.id

    async def cancel(self, deployment_id: str) -> None:
        await self.deployments.request_cancel(deployment_id, "ada")
        await self.control.cancel(deployment_id, "requested")

    async def all(self, identities: Iterable[str]) -> list[Deployment]:
        return [await self.deployments.get(identity) for identity in identities]

    async def become(
        self, identities: Iterable[str], wanted: Callable[[Deployment], bool], seconds: float = 60
    ) -> list[Deployment]:
        """The deployments, once all of them are as they are wanted."""
        identities = list(identities)

        async def are() -> bool:
            return all(map(wanted, await self.all(identities)))

        try:
            await eventually(are, seconds)
        except AssertionError:
            found = [one for one in await self.all(identities) if not wanted(one)]
            told = [f"{one.provider} {one.id} {one.status} {one.waiting_reason} {one.error}" for one in found]
            raise AssertionError("\n".join(told)) from None
        return await self.all(identities)

    async def under_way(self, deployment_id: str) -> set[str]:
        """The steps that its workflow waits for."""
        described = await self.temporal.get_workflow_handle(workflow_id(deployment_id)).describe()
        return {pending.activity_type.name for pending in described.raw_description.pending_activities}

    def is_stopped(self, deployment: Deployment) -> bool:
        """Whether its build was canceled at its provider."""
        stand_in, build = self.hosts[deployment.provider].stand_in, deployment.build_id or ""
        if isinstance(stand_in, HeldVercel):
            return stand_in.made[build].word == "CANCELED"
        if isinstance(stand_in, HeldNetlify):
            return "Canceled" in stand_in.made[build].more.get("error_message", "")
        assert isinstance(stand_in, HeldGithub)
        return stand_in.runs[int(build)].cancelled

    async def lines(self, deployment_id: str) -> list[str]:
        return [line.message for line in (await self.logs.page(deployment_id, LogFilter(), limit=1000)).lines]

    def made(self, identity: str) -> int:
        """How many builds there are of a deployment, at whatever provider."""
        return sum(host.stand_in.creates[identity] for host in self.hosts.values())


@contextlib.asynccontextmanager
async def service(
    database_url: str, sealer: Sealer, temporal: str, directory: Path, *, look: float = 0.2
) -> AsyncIterator[Service]:
    """`look` is the pause between two looks at a provider."""
    async with contextlib.AsyncExitStack() as parts:
        database = await parts.enter_async_context(Database(database_url, 20))
        listener = await parts.enter_async_context(Listener(database_url))
        hosts = {}
        kinds: tuple[type[Held], ...] = (HeldVercel, HeldGithub, HeldNetlify)
        for name, kind in zip(PROVIDERS, kinds, strict=True):
            stand_in = kind()
            await parts.enter_async_context(stand_in.running())
            hosts[name] = Host(name, stand_in)
            await hosts[name].door.open(stand_in.url)
            parts.callback(hosts[name].door.shut)
        hosted = _providers(hosts, listener, look)
        for provider in hosted.values():
            parts.push_async_callback(provider.close)
        client = await connect(temporal, "default", sealer)
        found = Service(
            hosts,
            DeploymentStore(database, sealer, TriggerLimiter(database, 1_000_000)),
            LogStore(database, sealer),
            WebhookStore(database, sealer),
            *_dispatch(database, sealer, temporal),
            client,
            await _projects(ProjectStore(database, sealer)),
        )
        progress = ProgressStore(database, sealer)
        records = RecordActivities(progress, GateStore(database), found.logs, found.dispatcher.wake)
        upkeep = LogActivities(LogUpkeep(database, found.logs, None, Keep(30, 365)))
        reconciling = ReconcileActivities(ReconciliationStore(database), Oversight(client, found.control))
        builds = BuildActivities(hosted, progress, found.logs, AddressChecks(allow_private_addresses=True))
        queue = worker.own_queue(directory)
        environments = EnvironmentActivities(EnvironmentStore(database), hosted)
        for one in (
            *worker.record_workers(client, records, upkeep, environments, reconciling),
            *worker.build_workers(client, queue, builds, MaintenanceActivities(hosted), environments),
        ):
            await parts.enter_async_context(one)
        dispatching = asyncio.create_task(found.dispatcher.run())
        parts.callback(dispatching.cancel)
        yield found


def _providers(hosts: dict[str, Host], listener: Listener, look: float) -> dict[str, Vercel | GithubPages | Netlify]:
    def watch(deployment_id: str) -> Any:
        return listener.watch(f"webhook:{deployment_id}")

    options = Options(allow_private_addresses=True, breakers=Impatient())
    brief = (look / 4, look / 2)
    vercel = vercel_pace.Pace(look=look, soonest=0.05, settle=0.02, reconnect=0.1)
    github = github_pace.Pace(poll=look, looks=brief, find=5, gone=5, log=5, pages=5, force=1)
    netlify = netlify_pace.Pace(look=look, find=brief, publish=0.2, read_back=0.05, patience=5, log=brief)
    return {
        "vercel": Vercel(VERCEL_TOKEN, hosts["vercel"].url, options, watch=watch, pace=vercel),
        "github-pages": GithubPages("token", hosts["github-pages"].url, options, watch=watch, pace=github),
        "netlify": Netlify(NETLIFY_TOKEN, hosts["netlify"].url, options, watch=watch, pace=netlify),
    }


def _dispatch(database: Database, sealer: Sealer, temporal: str) -> tuple[Dispatcher, DeploymentWorkflows]:
    control = DeploymentWorkflows(temporal, "default", sealer)
    outbox = Outbox(database)
    pushes = PushStore(database, DeploymentStore(database, sealer, TriggerLimiter(database, 10)))
    return Dispatcher(outbox, control, WebhookCourier(outbox, pushes, control)), control


async def _projects(projects: ProjectStore) -> dict[str, str]:
    """A project for each provider; the ids of their second environments."""
    staging = {}
    for name in PROVIDERS:
        project = {"id": name, "provider": name, "providerSettings": _SETTINGS[name], "concurrency": "parallel"}
        where = {"repositoryUrl": "https://github.com/acme/shop.git"}
        await projects.create_project(CreateProjectRequest.model_validate({**project, **where}), "ada")
        environment = await projects.create_environment(name, CreateEnvironmentRequest(name="staging"), "ada")
        staging[name] = environment.answer.id
    return staging


@dataclass
class Outcome:
    """What became of deployments: how many in each status, how many builds there were of each, whose log is wrong."""

    statuses: dict[Status, int]
    builds: dict[int, int]
    logs: list[str] = field(default_factory=list)
    waiting: int = 0
    """How many said, during an outage, that they waited for their provider."""
    stages: set[Status] = field(default_factory=set)
    """Those in which the outage found them."""


async def outcome(of: Service, identities: list[str], *, seconds: float = 60) -> Outcome:
    """Once all have ended."""
    ended = await of.become(identities, lambda one: one.ended, seconds)
    found = Outcome(Counter(one.status for one in ended), Counter(of.made(one.id) for one in ended))
    for one in ended:
        lines = await of.lines(one.id)
        wrong = [line for line, times in Counter(lines).items() if times > 1]
        if one.provider != "github-pages":
            said = [line for line in lines if line.startswith("line ")]
            wrong += set(said) ^ {f"line {number}" for number in range(LINES)}
        found.logs += [f"{one.provider} {one.id}: {line}" for line in wrong]
    return found


async def outage(of: Service, number: int, seconds: float, *, patience: float = 60) -> Outcome:
    """An outage of all providers in the middle of `number` deployments: what became of them."""
    late = max(len(PROVIDERS), number // 5)
    early = [await of.trigger("vercel", production=True)]
    early += [await of.trigger(PROVIDERS[one % len(PROVIDERS)]) for one in range(number - late - 1)]
    stages = {one.status for one in await of.become(early, _holds, patience)}
    for host in of.hosts.values():
        host.goes_away()
    identities = [*early, *[await of.trigger(PROVIDERS[one % len(PROVIDERS)]) for one in range(late)]]
    await of.become(identities, waits, patience)
    for host in of.hosts.values():
        host.stand_in.goes_on.set()  # whoever cannot be reached goes on all the same
        host.door.shut()
    await asyncio.sleep(seconds)
    waiting: set[str] = set()

    async def all_were_seen_waiting() -> bool:
        """Not in one moment: whoever is being tried again does not wait."""
        waiting.update(one.id for one in await of.all(identities) if waits(one))
        return len(waiting) == number

    await eventually(all_were_seen_waiting, patience)
    for host in of.hosts.values():
        await host.comes_back()
    found = await outcome(of, identities, seconds=patience)
    found.waiting, found.stages = len(waiting), stages
    return found


def _holds(one: Deployment) -> bool:
    """Whether it is as far as it gets for now."""
    production = one.configuration.environment == "production"
    return one.build_id is not None and (one.status is Status.DEPLOYING or not production)


def waits(one: Deployment) -> bool:
    """For a provider that is away, and says so."""
    said = ("answered 503", "did not answer", "waiting for")
    return (
        one.waiting_on == "provider"
        and one.waiting_since is not None
        and any(part in (one.waiting_reason or "") for part in said)
    )


def stand_ins(of: Service) -> list[StandIn]:
    return [host.stand_in for host in of.hosts.values()]


async def faults(of: Service, number: int, share: float = 0.3, *, patience: float = 120) -> Outcome:
    """`number` deployments while a share of all calls fails: what became of them."""
    for one in stand_ins(of):
        one.faults.append(Chaos("status", seconds=0.2, share=share))
    for host in of.hosts.values():
        host.stand_in.goes_on.set()
    identities = [await of.trigger(PROVIDERS[one % len(PROVIDERS)]) for one in range(number)]
    return await outcome(of, identities, seconds=patience)


async def lost_answers(of: Service, number: int, *, patience: float = 120) -> Outcome:
    """`number` deployments of whose creates no first answer comes."""
    for host in of.hosts.values():
        host.stand_in.goes_on.set()
        host.stand_in.fault("lost", "POST", CREATES[host.name], times=number)
    identities = [await of.trigger(PROVIDERS[one % len(PROVIDERS)]) for one in range(number)]
    return await outcome(of, identities, seconds=patience)
