"""Looks at records and workflows side by side, and mends what does not fit.

Rules:
1. What a list of workflows says may be late; before anything is done Temporal is asked about exactly that workflow,
   and the record is read again afterwards. A workflow closes after its record is final, so a record that is not final
   *then* is one that nobody will finish.
2. Every mend may be tried twice, by two reconcilers at once: it counts once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from temporalio import activity

from activities.failures import failing_plainly
from activities.heartbeat import beating
from activities.steps import OfDeployment, Reconcile
from domain.deployment import Deployment
from domain.reconciliation import MOST_FINDINGS, Finding, Round, Unfinished, WorkflowState

if TYPE_CHECKING:
    from store.reconciliation import ReconciliationStore

EVERY_SECONDS = 10.0
AT_ONCE = 20
"""Questions to Temporal at the same time."""
PATIENCE_SECONDS = 60.0
"""How long a workflow may stay open after its record is final; then it is canceled, and as long again, terminated."""

NO_RECORD = "there is no record of this deployment"
ENDED = "the deployment has ended"


class Workflows(Protocol):
    """Temporal, as far as it concerns deployments. Raises what the SDK raises: the step is tried again then."""

    async def all_open(self) -> set[str]: ...
    async def state(self, deployment_id: str) -> WorkflowState: ...
    async def start(self, deployment: Deployment) -> None: ...
    async def repair(self, deployment: Deployment, state: WorkflowState) -> None: ...
    async def end(self, deployment_id: str, reason: str, *, by_force: bool) -> None: ...


class ReconcileActivities:
    def __init__(self, store: "ReconciliationStore", workflows: Workflows) -> None:
        self._store = store
        self._workflows = workflows
        self._seen: dict[str, float] = {}
        """Since when workflows are seen open that should not be."""

    @activity.defn
    @beating
    @failing_plainly
    async def reconcile(self, step: Reconcile) -> Round:
        """Round after round for so many seconds; none: one round. Says what the last one found."""
        until = time.monotonic() + step.seconds
        while True:
            done = await self.round()
            if time.monotonic() + EVERY_SECONDS > until:
                return done
            await asyncio.sleep(EVERY_SECONDS)

    @activity.defn
    @beating
    @failing_plainly
    async def read_unfinished(self, step: OfDeployment) -> Unfinished | None:
        """The record, unless it is final."""
        return await self._store.unfinished(step.deployment_id)

    async def round(self) -> Round:
        """Looks at everything once."""
        should_run = set(await self._store.with_workflow())
        open_now = await self._workflows.all_open()
        zombies = await _each(self._look_at_record, should_run - open_now)
        orphans = await self._orphans(open_now - should_run)
        held = await self._store.free_lanes()
        idle = await self._store.grant_lanes()
        not_started, undelivered = await self._store.late()
        done = Round(
            at=datetime.now(UTC),
            zombies=len(zombies),
            orphan_workflows=len(orphans),
            held_lanes=len(held),
            idle_lanes=len(idle),
            not_started=not_started,
            undelivered=undelivered,
            findings=[*zombies, *orphans, *held, *idle][:MOST_FINDINGS],
        )
        await self._store.note(done)
        return done

    async def _look_at_record(self, deployment_id: str) -> Finding | None:
        """A record that runs and whose workflow was not listed as open."""
        state = await self._workflows.state(deployment_id)
        if state.is_open:
            return None
        found = await self._store.unfinished(deployment_id)
        if found is None:
            return None
        status = found.deployment.status
        if state.closed is not None:
            await self._workflows.repair(found.deployment, state)
            return Finding(id=deployment_id, problem=f"{status}, workflow {state.closed}", mend="repaired")
        begun = await self._store.begin_anew(deployment_id)
        if begun is None:
            return None
        await self._workflows.start(begun)
        return Finding(id=deployment_id, problem=f"{status}, Temporal has no workflow of it", mend="restarted")

    async def _orphans(self, suspects: set[str]) -> list[Finding]:
        """Open workflows whose record was not among those that run when it was read."""
        endings = await self._store.endings(sorted(suspects))
        wrong = {one for one in suspects if one not in endings or endings[one] is not None}
        now = time.monotonic()
        self._seen = {one: self._seen.get(one, now) for one in wrong}
        missing = [one for one in wrong if one not in endings]
        lasting = [one for one in wrong if one in endings and now - self._seen[one] >= PATIENCE_SECONDS]
        return [
            *await _each(lambda one: self._end(one, NO_RECORD, now - self._seen[one]), missing),
            *await _each(lambda one: self._end(one, ENDED, now - self._seen[one] - PATIENCE_SECONDS), lasting),
        ]

    async def _end(self, deployment_id: str, why: str, seconds: float) -> Finding | None:
        if not (await self._workflows.state(deployment_id)).is_open:
            return None
        await self._workflows.end(deployment_id, why, by_force=seconds >= PATIENCE_SECONDS)
        return Finding(id=deployment_id, problem=f"its workflow is open, but {why}", mend="ended")


async def _each(look: Callable[[str], Awaitable[Finding | None]], deployment_ids: Iterable[str]) -> list[Finding]:
    few = asyncio.Semaphore(AT_ONCE)

    async def one(deployment_id: str) -> Finding | None:
        async with few:
            try:
                return await look(deployment_id)
            except Exception as error:  # noqa: BLE001 - whatever it is with this one, the others are looked at
                activity.logger.warning("deployment %s cannot be looked at: %r", deployment_id, error)
                return Finding(id=deployment_id, problem=f"cannot be looked at: {type(error).__name__}", mend=None)

    findings = await asyncio.gather(*map(one, sorted(deployment_ids)))
    return [finding for finding in findings if finding is not None]
