"""Builds and runs the worker: the one list of all workflows and activities, and the place where the parts are joined.

`python -m worker`, configured by the environment (`settings.py`). HEADWAY_WORKER_ROLES says what it does: `workflows`
decides and keeps the records, any number of such workers may run; `builds` builds on this host.
"""

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Coroutine, Mapping
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.worker import Worker, WorkerDeploymentConfig

from activities.builds import BuildActivities
from activities.environments import EnvironmentActivities
from activities.maintenance import LogActivities, MaintenanceActivities
from activities.reconcile import ReconcileActivities
from activities.records import RecordActivities
from api import own_log
from domain.errors import DeploymentError
from providers import registry
from providers.base import Provider
from providers.custom.provider import Custom
from providers.github_pages.credentials import App
from providers.github_pages.provider import GithubPages
from providers.health import AddressChecks
from providers.http import Options
from providers.internal.edge import Edge, check_directory
from providers.internal.limits import Retention
from providers.internal.provider import Internal
from providers.netlify.built_here import BuiltHere
from providers.netlify.provider import Netlify
from providers.vercel.provider import Vercel
from providers.wake import Watch
from settings import Settings, blamed, read
from store.archive import LogArchive
from store.database import Database, migrate_patiently
from store.deployments import DeploymentStore
from store.environments import EnvironmentStore
from store.gate import GateStore
from store.limits import TriggerLimiter
from store.listener import Listener
from store.log_upkeep import Keep, LogUpkeep
from store.logs import LogStore
from store.outbox import Outbox
from store.progress import ProgressStore
from store.pushes import PushStore
from store.reconciliation import ReconciliationStore
from store.reseal import SecretKeyStore
from store.seal import Sealer
from store.webhook_intake import WAKE
from store.webhooks import WebhookStore
from workflows.control import DeploymentWorkflows, connect
from workflows.deployment import DeploymentWorkflow
from workflows.dispatch import Dispatcher, EnvironmentCourier, WebhookCourier
from workflows.maintenance import (
    KEEP_LOGS,
    RECONCILE,
    CleanUpWorkflow,
    KeepLogsWorkflow,
    ReconcileWorkflow,
    clean_up_of,
    schedule_clean_up,
    schedule_log_upkeep,
    schedule_reconciliation,
)
from workflows.oversight import Oversight
from workflows.plan import BUILD_QUEUE, TASK_QUEUE, UPKEEP_QUEUE
from workflows.repair import RepairWorkflow
from workflows.schedules import Scheduling, keep_scheduled
from workflows.take_down import TakeDownWorkflow
from workflows.versions import keep_version, pinned_to

PACKAGE_VERSION = version("headway")
THROTTLE = timedelta(seconds=1)
"""The longest that a heartbeat, and with it a cancel, waits to be sent."""
STICKY = timedelta(seconds=3)
"""How long a workflow waits for a worker that is gone before any other takes it over."""
GRACE = timedelta(seconds=2)
CONNECT_PAUSE_SECONDS = 0.5
MAX_BUILDS_FOLLOWED = 200
RESTORE_SECONDS = 2.0
ORPHANS_SECONDS = 10.0
FORGET_SECONDS = 3600.0
RESEAL_SECONDS = 300.0

Hosted = BuiltHere | Custom | GithubPages | Vercel

_log = structlog.get_logger()


def record_workers(
    client: Client,
    records: RecordActivities,
    logs: LogActivities,
    environments: EnvironmentActivities,
    reconciling: ReconcileActivities,
    *,
    version: WorkerDeploymentConfig | None = None,
) -> list[Worker]:
    """Decides and keeps the records; and the upkeep. With a version it is given what began under that alone."""
    upkeep: list[type] = [CleanUpWorkflow, KeepLogsWorkflow, ReconcileWorkflow]
    rounds = [logs.keep_logs, reconciling.reconcile]
    return [
        _worker(
            client,
            TASK_QUEUE,
            version=version,
            # A round of upkeep that began here before it had a queue of its own comes to its end here.
            workflows=[DeploymentWorkflow, RepairWorkflow, TakeDownWorkflow, *upkeep],
            activities=[
                *(records.look_at_gate, records.build_to_restore, records.finish, reconciling.read_unfinished),
                *(environments.builders_of, environments.note_taken_down, *rounds),
            ],
        ),
        _worker(client, UPKEEP_QUEUE, workflows=upkeep, activities=rounds),
    ]


def build_workers(
    client: Client,
    task_queue: str,
    builds: BuildActivities,
    maintenance: MaintenanceActivities,
    environments: EnvironmentActivities,
) -> list[Worker]:
    """Starts builds that nobody has yet, and looks after those that live on this host."""
    steps = [
        builds.start_build,
        builds.find_build,
        builds.pin_commit,
        builds.restore_build,
        builds.follow_build,
        builds.publish_build,
        builds.cancel_build,
        builds.collect_result,
    ]
    return [
        _worker(client, BUILD_QUEUE, activities=steps),
        _worker(client, task_queue, activities=[*steps, maintenance.clean_up, environments.take_down]),
    ]


def _worker(
    client: Client,
    task_queue: str,
    *,
    workflows: list[type] | None = None,
    activities: list[Any],
    version: WorkerDeploymentConfig | None = None,
) -> Worker:
    return Worker(
        client,
        task_queue=task_queue,
        workflows=workflows or [],
        activities=activities,
        build_id=None if version else PACKAGE_VERSION,  # else the SDK hashes all code that is loaded, for seconds
        deployment_config=version,
        max_concurrent_activities=MAX_BUILDS_FOLLOWED,
        max_heartbeat_throttle_interval=THROTTLE,
        default_heartbeat_throttle_interval=THROTTLE,
        sticky_queue_schedule_to_start_timeout=STICKY,
        graceful_shutdown_timeout=GRACE,
    )


def internal_provider(settings: Settings, task_queue: str) -> Internal:
    return Internal(
        root=settings.data_dir,
        edge=Edge(settings.edge_admin_url, settings.edge_url, settings.sites_domain),
        task_queue=task_queue,
        allow_private_addresses=settings.allow_private_addresses,
        environment=settings.build_environment,
        keep=Retention(keep_releases=settings.keep_releases, keep_days=settings.keep_days),
    )


def hosted_providers(settings: Settings, watch: Watch, internal: Internal) -> list[Hosted]:
    """Those that are reached over HTTP; Netlify also publishes what `internal` built.

    They share what is known of each account's limits and troubles.
    """
    options = Options(allow_private_addresses=settings.allow_private_addresses)
    with blamed("github_app_key"):
        app = App(settings.github_app_id, _text(settings.github_app_key) or "") if settings.github_app_id else None
    netlify = Netlify(
        _text(settings.netlify_token), settings.netlify_api_url, options, releases=internal.release_of, watch=watch
    )
    return [
        Custom(options, watch=watch),
        GithubPages(
            _text(settings.github_token),
            settings.github_api_url,
            options,
            app=app,
            public_url=settings.public_url,
            watch=watch,
        ),
        BuiltHere(netlify, internal),
        Vercel(_text(settings.vercel_token), settings.vercel_api_url, options, watch=watch),
    ]


def _tokens(settings: Settings) -> list[str]:
    """The operator's own at the providers: an answer of theirs could repeat one into a log."""
    tokens = (settings.vercel_token, settings.netlify_token, settings.github_token)
    return [token.get_secret_value() for token in tokens if token]


def _text(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def own_queue(data_dir: Path) -> str:
    """The queue of the builds on this disk. Its name stays with the disk, whatever the host is called."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / "builder-id"
    with contextlib.suppress(FileExistsError), path.open("x") as file:
        file.write(uuid4().hex[:12])
    return f"{BUILD_QUEUE}-{path.read_text()}"


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT; what runs then is handed over to other workers, or to this one's successor."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await migrate_patiently(settings.database_url.get_secret_value())
    async with contextlib.AsyncExitStack() as parts:
        database = Database(settings.database_url.get_secret_value(), settings.database_pool_size)
        await parts.enter_async_context(database)
        sealer = Sealer(settings.secret_keys.get_secret_value())
        client = await _connect_patiently(settings, sealer)
        for worker in await _workers(settings, client, database, sealer, parts):
            await parts.enter_async_context(worker)
        # What is there now stays; lines of logs come and go by millions, and hold no circles.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        _log.info("worker is ready", roles=sorted(settings.worker_roles))
        await stop.wait()


async def _workers(
    settings: Settings, client: Client, database: Database, sealer: Sealer, parts: contextlib.AsyncExitStack
) -> list[Worker]:
    progress = ProgressStore(database, sealer)
    archive = LogArchive(settings.log_archive, **settings.log_archive_access) if settings.log_archive else None
    logs = LogStore(database, sealer, archive)
    environments = EnvironmentStore(database)
    reconciliation = ReconciliationStore(database)
    workers = []
    schedules: dict[str, Scheduling] = {}
    if "workflows" in settings.worker_roles:
        upkeep = LogUpkeep(database, logs, archive, Keep(settings.log_keep_days, settings.log_archive_days))
        control = DeploymentWorkflows(settings.temporal_address, settings.temporal_namespace, sealer)
        outbox = Outbox(database)
        deployments = DeploymentStore(database, sealer, TriggerLimiter(database, settings.trigger_limit))
        webhooks = WebhookCourier(outbox, PushStore(database, deployments), control)
        dispatcher = Dispatcher(outbox, control, webhooks, EnvironmentCourier(environments, control))
        await parts.enter_async_context(_running(dispatcher.run()))
        records = RecordActivities(progress, GateStore(database), logs, dispatcher.wake)
        reconciling = ReconcileActivities(reconciliation, Oversight(client, control))
        house = (LogActivities(upkeep), EnvironmentActivities(environments, {}), reconciling)
        pinned = settings.worker_versioning == "pinned"
        build_id = (settings.build_id or PACKAGE_VERSION) if pinned else None
        workers += record_workers(client, records, *house, version=pinned_to(build_id) if build_id else None)
        await parts.enter_async_context(_running(keep_version(client, build_id)))
        schedules |= {KEEP_LOGS: schedule_log_upkeep, RECONCILE: schedule_reconciliation}
        await parts.enter_async_context(_running(_forget_webhooks(WebhookStore(database, sealer))))
        await parts.enter_async_context(_running(_reseal(SecretKeyStore(database, sealer))))
    if "builds" in settings.worker_roles:
        with blamed("data_dir"):
            check_directory(settings.data_dir.resolve())
            task_queue = own_queue(settings.data_dir)
        internal = internal_provider(settings, task_queue)
        listener = await parts.enter_async_context(Listener(settings.database_url.get_secret_value()))
        hosted = hosted_providers(settings, lambda deployment_id: listener.watch(WAKE.format(deployment_id)), internal)
        for provider in hosted:
            parts.push_async_callback(provider.close)
        built_in = {provider.name: provider for provider in (internal, *hosted)}
        providers: Mapping[str, Provider] = {**built_in, **registry.plugin_instances()}
        checks = AddressChecks(allow_private_addresses=settings.allow_private_addresses)
        parts.push_async_callback(checks.close)
        builds = BuildActivities(providers, progress, logs, checks, _tokens(settings))
        looks = (MaintenanceActivities(providers), EnvironmentActivities(environments, providers))
        workers += build_workers(client, task_queue, builds, *looks)
        schedules[clean_up_of(task_queue)] = lambda client: schedule_clean_up(client, task_queue)
        await parts.enter_async_context(_running(_keep_sites(internal)))
        await parts.enter_async_context(_running(_stop_orphans(internal, reconciliation)))
    await parts.enter_async_context(_running(keep_scheduled(client, schedules)))
    return workers


async def _forget_webhooks(webhooks: WebhookStore) -> None:
    """Removes those that nobody needs any more."""
    while True:
        try:
            await webhooks.forget()
        except DeploymentError as error:
            _log.warning("old webhooks stay for now", reason=error.message)
        await asyncio.sleep(FORGET_SECONDS)


async def _reseal(keys: SecretKeyStore) -> None:
    """What an old key has sealed is sealed anew."""
    while True:
        try:
            if values := await keys.reseal():
                _log.info("secrets are sealed anew", values=values)
        except DeploymentError as error:
            _log.warning("secrets are not sealed anew for now", reason=error.message)
        await asyncio.sleep(RESEAL_SECONDS)


async def _stop_orphans(internal: Internal, records: ReconciliationStore) -> None:
    """Builds on this disk whose deployment has ended, or is not known, do not run on."""
    while True:
        try:
            running = await asyncio.to_thread(internal.running_builds)
            stopped = [one for one in await records.unwanted(running) if await internal.stop(one)]
            if stopped:
                _log.warning("builds that nobody wants were stopped", deployments=stopped)
                await records.note_stopped(len(stopped))
        except DeploymentError as error:
            _log.warning("builds are looked at later", reason=error.message)
        await asyncio.sleep(ORPHANS_SECONDS)


async def _keep_sites(internal: Internal) -> None:
    """Hosts and edge are brought in line with the sites, whatever either has lost."""
    while True:
        try:
            await internal.restore_sites()
        except DeploymentError as error:
            _log.warning("the edge is away", reason=error.message)
        await asyncio.sleep(RESTORE_SECONDS)


@contextlib.asynccontextmanager
async def _running(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Beside the block. When it ends by a bug the process ends too: a worker without it only looks alive."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(coroutine)
        yield
        task.cancel()


async def _connect_patiently(settings: Settings, sealer: Sealer) -> Client:
    metrics = settings.worker_metrics_address
    telemetry = TelemetryConfig(metrics=PrometheusConfig(bind_address=metrics) if metrics else None)
    runtime = Runtime(telemetry=telemetry)
    while True:
        try:
            return await connect(settings.temporal_address, settings.temporal_namespace, sealer, runtime=runtime)
        except RuntimeError as error:
            _log.info("waiting for Temporal", address=settings.temporal_address, reason=str(error)[:200])
            await asyncio.sleep(CONNECT_PAUSE_SECONDS)


def main() -> None:
    settings = read()
    own_log.configure(settings.log_level)
    asyncio.run(run(settings))


if __name__ == "__main__":
    main()
