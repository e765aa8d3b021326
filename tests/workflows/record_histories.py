"""Records a history per ending and per wait into `histories/`: `python -m tests.workflows.record_histories ADDRESS`.

To be run before a change of the workflow's steps, against a Temporal dev server; what is there is kept, so that
yesterday's runs still have to replay. Those that were recorded before payloads were sealed are in clear.
"""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from activities.steps import BuildOutcome
from domain.build import Build
from domain.ending import Ending
from domain.errors import ErrorCode
from domain.gate import Look
from domain.result import Failure
from domain.states import Status
from domain.webhook import Hint
from store.seal import Sealer
from tests.conftest import SECRET_KEYS
from tests.workflows.doubles import GO, Handle, Script, start, workers
from workflows.control import connect
from workflows.deployment import DeploymentWorkflow

HISTORIES = Path(__file__).parent / "histories"
_PROCESS = re.compile(r"[0-9]+@")
"""How the SDK names a process, and its own queue: by number and host."""

Meanwhile = Callable[[Handle, Script], Awaitable[None]]
Recording = tuple[Script, dict[str, object], Meanwhile]


async def _forever() -> None:
    await asyncio.Event().wait()


async def _two_seconds() -> None:
    await asyncio.sleep(2)


def _failed() -> BuildOutcome:
    return BuildOutcome(stage="failed", failure=Failure(code=ErrorCode.BUILD_FAILED, message="exit code 7"))


def _never(why: str) -> Look:
    """What the gate says of one that will not go."""
    return Look(ending=Ending(status=Status.CANCELED, failure=Failure(code=ErrorCode.CANCELED, message=why)))


def _away(times: int) -> Callable[[], Awaitable[None]]:
    """A provider that does not answer so often."""
    left = iter(range(times))

    async def answer() -> None:
        for _ in left:
            raise ApplicationError("acme answered 503", type=ErrorCode.UNAVAILABLE)

    return answer


async def _nothing(_: Handle, __: Script) -> None:
    """The deployment ends by itself."""


async def _cancel(handle: Handle, script: Script) -> None:
    await _until(lambda: bool(script.started))
    await asyncio.sleep(0.3)
    await handle.cancel(reason="requested")


def _seeing(*looks: Look) -> Meanwhile:
    """It waits; then it is told, again and again, and finds what has become of it."""

    async def tell(handle: Handle, script: Script) -> None:
        waiting = 2 if script.look.pin else 1
        for told, look in enumerate(looks):
            await _until_it_waits(handle, script, waiting + told)
            script.look = look
            await handle.signal(DeploymentWorkflow.look_again)

    return tell


async def _cancel_at_the_gate(handle: Handle, script: Script) -> None:
    await _until_it_waits(handle, script, 1)
    await handle.cancel(reason="requested")


async def _wait_on(handle: Handle, script: Script) -> None:
    await _until_it_waits(handle, script, 2)


async def _hints(handle: Handle, script: Script) -> None:
    await _until(lambda: bool(script.started))
    for kind in ("deployment.created", "deployment.ready"):
        await handle.signal(DeploymentWorkflow.webhook, Hint(count=1, kind=kind))


async def _until_it_waits(handle: Handle, script: Script, looks: int) -> None:
    """It has looked so often, and sleeps."""
    await _until(lambda: script.looks >= looks)
    while (seen := (await handle.describe()).raw_description).pending_activities or _is_thinking(seen):
        await asyncio.sleep(0.05)


async def _until_idle(handle: Handle) -> None:
    """It has answered to all that it was told."""
    while _is_thinking((await handle.describe()).raw_description):
        await asyncio.sleep(0.05)


def _is_thinking(seen: DescribeWorkflowExecutionResponse) -> bool:
    return seen.HasField("pending_workflow_task")


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.05)


ENDINGS: dict[str, Recording] = {
    "succeeded": (Script(), {}, _nothing),
    "succeeded-sealed": (Script(), {}, _nothing),
    "succeeded-without-publishing": (Script(), {"skip_deploy": True}, _nothing),
    "failed": (Script(outcome=_failed()), {}, _nothing),
    "canceled": (Script(follow=_forever), {}, _cancel),
    "timeout": (Script(follow=_forever), {"timeout_seconds": 1}, _nothing),
}
_EARLIER = Build(deployment_id="d0", project_id="shop", environment="production", build_id="b0")
_GATED: dict[str, object] = {"gated": True}
_APPROVAL, _LINE = Look(pin=True), Look()
WAITS: dict[str, Recording] = {
    "approved": (Script(look=_APPROVAL), _GATED, _seeing(GO)),
    "approved-without-its-commit": (Script(look=_APPROVAL, can_pin=False), _GATED, _seeing(GO)),
    "rejected": (Script(look=_APPROVAL), _GATED, _seeing(_never("rejected by bob"))),
    "granted-from-the-line": (Script(look=_LINE), _GATED, _seeing(_LINE, GO)),
    "superseded-in-the-line": (Script(look=_LINE), _GATED, _seeing(_never("superseded by deployment d1"))),
    "thawed": (Script(look=Look(look_again_seconds=0.5)), _GATED, _seeing(GO)),
    "canceled-at-the-gate": (Script(look=_LINE), _GATED, _cancel_at_the_gate),
    "waited-for-its-provider": (Script(start=_away(2), publish=_away(1)), {}, _nothing),
    "told-by-webhooks": (Script(follow=_two_seconds), {}, _hints),
    "restored": (Script(earlier=_EARLIER), {"restores": "d0"}, _nothing),
    "restored-from-the-line": (Script(look=_LINE, earlier=_EARLIER), {**_GATED, "restores": "d0"}, _seeing(GO)),
    "retried-from-deploy-and-built-anew": (Script(earlier=_EARLIER, can_restore=False), {"restores": "d0"}, _nothing),
    "canceled-before-its-start-was-heard": (Script(start=_away(1000), lost=_EARLIER), {}, _cancel),
    "timeout-before-its-start-was-heard": (Script(start=_away(1000)), {"timeout_seconds": 1}, _nothing),
}
"""By what became of those that waited for somebody, or for somebody's answer."""

OPEN: dict[str, Recording] = {
    "waits-for-approval": (Script(look=_APPROVAL), _GATED, _wait_on),
    "builds": (Script(follow=_forever), {}, _hints),
}
"""Those that have not ended, as a worker finds them that is new."""


def _without_this_machine(recorded: Any) -> Any:
    """Paths and host names say nothing that a replay needs."""
    if isinstance(recorded, list):
        return [_without_this_machine(entry) for entry in recorded]
    if isinstance(recorded, dict):
        kept = {name: value for name, value in recorded.items() if name not in ("stackTrace", "identity")}
        return {name: _without_this_machine(value) for name, value in kept.items()}
    return "worker" if isinstance(recorded, str) and _PROCESS.match(recorded) else recorded


async def record(address: str) -> None:
    client = await connect(address, "default", Sealer(SECRET_KEYS))
    for name, (script, plan, meanwhile) in {**ENDINGS, **WAITS, **OPEN}.items():
        path = HISTORIES / f"{name}.json"
        if path.exists():
            continue
        async with workers(client, script):
            handle = await start(client, **plan)
            await meanwhile(handle, script)
            if name in OPEN:
                await _until_idle(handle)
            else:
                with contextlib.suppress(WorkflowFailureError):
                    await handle.result()
        recorded = json.loads((await handle.fetch_history()).to_json())
        if name in OPEN:
            await handle.terminate("recorded")
        path.write_text(json.dumps(_without_this_machine(recorded), indent=2))


if __name__ == "__main__":
    HISTORIES.mkdir(exist_ok=True)
    asyncio.run(record(sys.argv[1]))
