"""What is done now and then, each by its schedule: a builder's disk is cleaned; logs are merged, archived, dropped;
records and workflows are reconciled.

Rule: what is done every few seconds is done by one long step, which its schedule starts again when it is over: a run
each time would fill Temporal's list of workflows, and its disk.
"""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

with workflow.unsafe.imports_passed_through():
    from activities.maintenance import LogActivities, MaintenanceActivities
    from activities.reconcile import ReconcileActivities
    from activities.steps import Reconcile
    from domain.log import LogSweep
    from domain.reconciliation import Round
    from workflows.plan import UPKEEP_QUEUE
    from workflows.policies import HEARTBEAT, RETRY

EVERY = timedelta(hours=1)
KEEP_LOGS = "keep-logs"
RECONCILE = "reconcile"
RECONCILE_AGAIN = timedelta(minutes=1)
"""When its step is over; as long as it goes on, nothing is started."""
RECONCILE_FOR = timedelta(hours=1)
_LIMIT = timedelta(minutes=30)


@workflow.defn
class CleanUpWorkflow:
    @workflow.run
    async def run(self, task_queue: str) -> None:
        await workflow.execute_activity_method(
            MaintenanceActivities.clean_up,
            task_queue=task_queue,
            start_to_close_timeout=_LIMIT,
            schedule_to_close_timeout=_LIMIT,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RETRY,
        )


@workflow.defn
class KeepLogsWorkflow:
    @workflow.run
    async def run(self) -> LogSweep:
        return await workflow.execute_activity_method(
            LogActivities.keep_logs,
            start_to_close_timeout=_LIMIT,
            schedule_to_close_timeout=_LIMIT,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RETRY,
        )


@workflow.defn
class ReconcileWorkflow:
    @workflow.run
    async def run(self, step: Reconcile) -> Round:
        return await workflow.execute_activity_method(
            ReconcileActivities.reconcile,
            step,
            start_to_close_timeout=timedelta(seconds=step.seconds) + _LIMIT,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RETRY,
        )


def clean_up_of(task_queue: str) -> str:
    return f"clean-up-{task_queue}"


async def schedule_clean_up(client: Client, task_queue: str) -> None:
    """Makes sure that the builder behind `task_queue` is cleaned."""
    name = clean_up_of(task_queue)
    await _schedule(client, name, CleanUpWorkflow, task_queue, summary="old builds and releases", every=EVERY)


async def schedule_reconciliation(client: Client) -> None:
    """Makes sure that records and workflows are reconciled, and that it begins at once."""
    step = Reconcile(seconds=RECONCILE_FOR.total_seconds())
    summary = "records and workflows side by side"
    await _schedule(client, RECONCILE, ReconcileWorkflow, step, summary=summary, every=RECONCILE_AGAIN)
    await client.get_schedule_handle(RECONCILE).trigger(overlap=ScheduleOverlapPolicy.SKIP)


async def schedule_log_upkeep(client: Client, every: timedelta = EVERY) -> None:
    """Makes sure that logs are merged, archived and dropped in time."""
    await _schedule(client, KEEP_LOGS, KeepLogsWorkflow, summary="old logs", every=every)


async def _schedule(client: Client, name: str, what: type, *arguments: Any, summary: str, every: timedelta) -> None:
    """One that is there becomes what this version wants; it stays paused when an operator has paused it."""
    action = ScheduleActionStartWorkflow(
        what.__name__, args=arguments, id=name, task_queue=UPKEEP_QUEUE, static_summary=summary
    )
    policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=every)
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)])
    wanted = Schedule(action=action, spec=spec, policy=policy)

    def renewed(found: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted.state = found.description.schedule.state
        return ScheduleUpdate(wanted)

    try:
        await client.create_schedule(name, wanted)
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(name).update(renewed)
