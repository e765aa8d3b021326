"""Records a history per ending into `histories/`: `python -m tests.workflows.record_histories ADDRESS`.

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

from temporalio.client import WorkflowFailureError

from activities.steps import BuildOutcome
from domain.errors import ErrorCode
from domain.result import Failure
from store.seal import Sealer
from tests.conftest import SECRET_KEYS
from tests.workflows.doubles import Handle, Script, start, workers
from workflows.control import connect

HISTORIES = Path(__file__).parent / "histories"
_PROCESS = re.compile(r"[0-9]+@")
"""How the SDK names a process, and its own queue: by number and host."""


async def _forever() -> None:
    await asyncio.Event().wait()


def _failed() -> BuildOutcome:
    return BuildOutcome(stage="failed", failure=Failure(code=ErrorCode.BUILD_FAILED, message="exit code 7"))


async def _nothing(_: Handle, __: Script) -> None:
    """The deployment ends by itself."""


async def _cancel(handle: Handle, script: Script) -> None:
    while not script.started:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    await handle.cancel(reason="requested")


ENDINGS: dict[str, tuple[Script, dict[str, object], Callable[[Handle, Script], Awaitable[None]]]] = {
    "succeeded": (Script(), {}, _nothing),
    "succeeded-sealed": (Script(), {}, _nothing),
    "succeeded-without-publishing": (Script(), {"skip_deploy": True}, _nothing),
    "failed": (Script(outcome=_failed()), {}, _nothing),
    "canceled": (Script(follow=_forever), {}, _cancel),
    "timeout": (Script(follow=_forever), {"timeout_seconds": 1}, _nothing),
}


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
    for name, (script, plan, meanwhile) in ENDINGS.items():
        path = HISTORIES / f"{name}.json"
        if path.exists():
            continue
        async with workers(client, script):
            handle = await start(client, **plan)
            await meanwhile(handle, script)
            with contextlib.suppress(WorkflowFailureError):
                await handle.result()
        recorded = json.loads((await handle.fetch_history()).to_json())
        path.write_text(json.dumps(_without_this_machine(recorded), indent=2))


if __name__ == "__main__":
    HISTORIES.mkdir(exist_ok=True)
    asyncio.run(record(sys.argv[1]))
