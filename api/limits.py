"""The trigger limit as callers see it, on every answer of a limited route (draft-ietf-httpapi-ratelimit-headers).

Rule: what is left is told only where the project is known and the caller may see it.
"""

import re

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import DeploymentError
from store.limits import WINDOW_SECONDS, TriggerLimiter

POLICY = f'"trigger";q={{limit}};w={WINDOW_SECONDS}'
QUOTA = '"trigger";r={remaining};t={reset}'

_LIMITED = re.compile(r"/v1/deployments(/[^/]+/retry)?")
_PROJECT = "limited_project"


def tell(request: Request, project_id: str) -> None:
    """This request counts against `project_id`, which its caller may see."""
    request.scope["state"][_PROJECT] = project_id


class RateLimitHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not _LIMITED.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        limiter: TriggerLimiter = scope["app"].state.services.limiter

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["RateLimit-Policy"] = POLICY.format(limit=limiter.limit)
                headers.update(await _quota(limiter, scope["state"].get(_PROJECT)))
            await send(message)

        await self._app(scope, receive, told)


async def _quota(limiter: TriggerLimiter, project_id: str | None) -> dict[str, str]:
    if project_id is None:
        return {}
    try:
        quota = await limiter.quota(project_id)
    except DeploymentError:
        return {}  # the answer is there already; a database that has gone since takes only this header from it
    return {"RateLimit": QUOTA.format(remaining=quota.remaining, reset=quota.reset_seconds)}
