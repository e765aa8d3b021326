"""Keeps schedules there, whatever becomes of Temporal's own database."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

LOOK_SECONDS = 20.0

Scheduling = Callable[[Client], Awaitable[None]]

_log = structlog.get_logger()


async def keep_scheduled(client: Client, schedules: Mapping[str, Scheduling]) -> None:
    """Makes all schedules, and makes those again that are gone: a Temporal that was set up anew knows none."""
    made: set[str] = set()
    while True:
        try:
            for name, schedule in schedules.items():
                if name not in made or not await _is_there(client, name):
                    await schedule(client)
                    made.add(name)
        except RPCError as error:
            _log.warning("schedules are looked at later", reason=str(error)[:200])
        await asyncio.sleep(LOOK_SECONDS)


async def _is_there(client: Client, name: str) -> bool:
    try:
        await client.get_schedule_handle(name).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True
