"""What a site serves: makes a deploy live, and keeps it so.

Rules:
1. Live is what the site says, not what a deploy says.
2. A lock keeps Netlify from publishing by itself. What was asked for is published all the same, and locked in its turn.
"""

import asyncio
import time

from domain.errors import DeploymentError, ErrorCode
from domain.log import LogLevel, LogLine
from providers.http import CallFailed, plain
from providers.netlify.api import Api
from providers.netlify.calls import LOCK, RESTORE, Site
from providers.netlify.log import note
from providers.netlify.pace import Pace

_UNLOCK = "start auto publishing at netlify to have pushes published again"


async def make_live(api: Api, build_id: str, pace: Pace, *, keep: bool = False) -> tuple[Site, list[LogLine]]:
    """The site, once it serves that deploy, and what is to be said about it. `keep` locks it, as does a lock before.

    Raises:
        DeploymentError: when it does not come to serve it.
    """
    site = await api.site()
    lines: list[LogLine] = []
    if site.live != build_id:
        if site.locked:
            lines.append(note(f"{locked(site)}; this deploy is published all the same, and the lock moves to it"))
            keep = True
        await api.check_turn()
        await _restore(api, build_id)
        site = await _seen_live(api, build_id, pace)
    lines.append(note(f"netlify serves {build_id}"))
    return site, [*lines, await _keep_live(api, build_id)] if keep else lines


def locked(site: Site) -> str:
    return f"the site is locked to deploy {plain(site.live or '?', 80)} at netlify, which publishes no other by itself"


async def _seen_live(api: Api, build_id: str, pace: Pace) -> Site:
    until = time.monotonic() + pace.patience
    while (site := await api.site()).live != build_id:
        if time.monotonic() >= until:
            why = f": {locked(site)}" if site.locked else ""
            code = ErrorCode.DEPLOY_FAILED if site.locked else ErrorCode.UNAVAILABLE
            raise DeploymentError(code, f"netlify has not published the deploy{why}", retry_after_seconds=5)
        await asyncio.sleep(pace.read_back)
    return site


async def _restore(api: Api, build_id: str) -> None:
    try:
        await api.call(RESTORE, id=build_id)
    except CallFailed as error:
        # It may be refused because it is live by now.
        if error.retryable or (await api.site()).live != build_id:
            raise


async def _keep_live(api: Api, build_id: str) -> LogLine:
    """Locks auto publishing; that it cannot be locked does not undo what is live."""
    try:
        await api.call(LOCK, id=build_id)
    except DeploymentError as error:
        if error.retryable:
            raise
        message = f"auto publishing could not be locked, so that the next push may undo this: {plain(error.message)}"
        return note(message, level=LogLevel.WARN)
    if (await api.site()).locked:
        return note(f"auto publishing is locked, so that no push undoes this; {_UNLOCK}")
    return note("netlify does not say that auto publishing is locked: the next push may undo this", level=LogLevel.WARN)
