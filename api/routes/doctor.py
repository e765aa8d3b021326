"""One look at the whole service: what each part says, and whether records and workflows fit together."""

from collections.abc import Awaitable

from fastapi import APIRouter, Response

from api.answers import json_answer
from api.auth import Operator
from api.describe import GUARDED, described
from api.services import Services, Wired
from domain.errors import DeploymentError
from domain.reconciliation import Checkup, Mend, PartState, Round
from workflows.plan import BUILD_QUEUE, TASK_QUEUE, UPKEEP_QUEUE

router = APIRouter(tags=["operations"])

_WORKERS = "workers of {}"


@router.post(
    "/v1/doctor",
    operation_id="checkUp",
    summary="Looks at every part, and reconciles records and workflows now",
    **described(200, Checkup, GUARDED),
)
async def check_up(services: Wired, caller: Operator) -> Response:
    del caller
    parts = [
        await _part("database", services.database.ping()),
        await _part("migrations", _migrated(services)),
        await _part("secret keys", _unlocked(services)),
        await _part("temporal", services.workflows.ping()),
    ]
    if _fine(parts, "database", "temporal"):
        parts += await _queues(services)
    done: Round | None = None
    mended: dict[Mend, int] = {}
    if _fine(parts, "database", "temporal", _WORKERS.format(UPKEEP_QUEUE)):
        try:
            done = await services.workflows.reconcile()
            reconciled = await services.reconciliation.last()
            mended = reconciled.mended if reconciled else {}
        except DeploymentError as error:
            parts.append(PartState(name="reconciler", problem=error.message))
    return json_answer(Checkup(parts=parts, round=done, mended=mended))


def _fine(parts: list[PartState], *names: str) -> bool:
    return set(names) <= {part.name for part in parts if part.problem is None}


async def _part(name: str, question: Awaitable[str | None]) -> PartState:
    """`question` answers with what is wrong."""
    try:
        return PartState(name=name, problem=await question)
    except DeploymentError as error:
        return PartState(name=name, problem=error.message)


async def _migrated(services: Services) -> str | None:
    missing = await services.checkups.missing_migrations()
    return f"not applied: {', '.join(missing)}" if missing else None


async def _unlocked(services: Services) -> str | None:
    locked = await services.checkups.locked_secrets()
    if not locked:
        return None
    some = ", ".join(locked[:3])
    return f"HEADWAY_SECRET_KEYS does not open {some}; {len(locked)} in all that were tried"


async def _queues(services: Services) -> list[PartState]:
    """Whether somebody works on each."""
    queues = [(TASK_QUEUE, True), (UPKEEP_QUEUE, True), (BUILD_QUEUE, False)]
    queues += [(queue, False) for queue in await services.checkups.build_queues()]
    return [await _part(_WORKERS.format(name), _worked(services, name, workflows)) for name, workflows in queues]


async def _worked(services: Services, name: str, workflows: bool) -> str | None:
    if await services.workflows.workers(name, workflows=workflows):
        return None
    return "no worker has asked for work in the last minute"
