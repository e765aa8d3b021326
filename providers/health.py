"""Asks the address of what was published whether it is well, as `configuration.healthCheck` says.

Rules:
1. The address may be anybody's: it is reached through the guard, but for an address of our own (`reached_at`).
2. Nothing of ours goes with the question, and no redirect is followed.
3. It is asked again until it is well or the time is up; then the deployment has failed, and the error says what was
   seen last.
"""

import asyncio
import time
from contextlib import aclosing
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx

from domain.errors import DeploymentError, ErrorCode
from domain.health import HealthCheck
from domain.log import LogLine
from domain.states import Status
from providers.answers import askable
from providers.base import Publication
from providers.bodies import Unreadable, decoded
from providers.guarded import GuardedTransport

MOST_BYTES = 1024 * 1024
TRY_SECONDS = 10.0
LEAST_SECONDS = 1.0
"""The last try has so long, too, else it would only tell how little time was left."""
PAUSE_SECONDS = 0.5
STEP = "healthCheck"

_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=0)


class AddressChecks:
    def __init__(self, *, allow_private_addresses: bool = False) -> None:
        self._guarded = GuardedTransport(_LIMITS, allow_private_addresses=allow_private_addresses)
        self._own = httpx.AsyncHTTPTransport(limits=_LIMITS, trust_env=False)

    async def close(self) -> None:
        await self._guarded.aclose()
        await self._own.aclose()

    async def check(self, wanted: HealthCheck, publication: Publication) -> LogLine:
        """Returns once the address is well, with a line that says so.

        Raises:
            DeploymentError: deploy-failed.
        """
        address = askable(publication.deployment_url)
        if address is None:
            raise _failed("the provider gave no address for healthCheck to ask", "take healthCheck away for it")
        url = address.partition("#")[0].partition("?")[0].rstrip("/") + wanted.path
        until = time.monotonic() + wanted.timeout_seconds
        while True:
            seconds = min(TRY_SECONDS, max(LEAST_SECONDS, until - time.monotonic()))
            seen, well = await self._seen(wanted, url, publication.reached_at, seconds)
            if well:
                return LogLine(datetime.now(UTC), f"{url} answers with {seen}", STEP, "deploy")
            if time.monotonic() + PAUSE_SECONDS >= until:
                raise _failed(f"{url} is not well within {wanted.timeout_seconds} s: {seen}, wanted {wanted.said}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _seen(self, wanted: HealthCheck, url: str, own: str | None, seconds: float) -> tuple[str, bool]:
        """What the address answers, and whether that is what is wanted."""
        try:
            request = _request(url, own, seconds)
            async with asyncio.timeout(seconds):
                response = await (self._own if own else self._guarded).handle_async_request(request)
                try:
                    if not wanted.accepts(response.status_code) or wanted.contains is None:
                        return f"status {response.status_code}", wanted.accepts(response.status_code)
                    held = await _holds(response, wanted.contains.encode())
                    return f"status {response.status_code} with{'' if held else 'out'} the text", held
                finally:
                    await response.aclose()
        except TimeoutError:
            return f"no answer within {seconds:.0f} s", False
        except (httpx.TransportError, Unreadable) as error:
            return f"no answer that can be read ({type(error).__name__})", False
        except httpx.InvalidURL:
            raise _failed(f"{url} cannot be asked: it is no address") from None
        except DeploymentError as error:  # the guard
            raise _failed(f"{url} cannot be asked: {error.message}") from None


def _request(url: str, own: str | None, seconds: float) -> httpx.Request:
    """An address of ours is asked for the host of the public one."""
    parts = urlsplit(url)
    target = own.rstrip("/") + parts._replace(scheme="", netloc="").geturl() if own else url
    return httpx.Request(
        "GET",
        target,
        headers={"Host": parts.netloc, "User-Agent": "headway", "Accept": "*/*", "Accept-Encoding": "gzip"},
        extensions={"timeout": httpx.Timeout(seconds).as_dict()},
    )


async def _holds(response: httpx.Response, text: bytes) -> bool:
    """Whether the text is in the first part of the body."""
    body = bytearray()
    async with aclosing(decoded(response)) as parts:
        async for part in parts:
            begin = max(0, len(body) - len(text))
            body += part
            if body.find(text, begin) >= 0:
                return True
            if len(body) > MOST_BYTES:
                break
    return False


def _failed(message: str, hint: str | None = None) -> DeploymentError:
    details = {"phase": str(Status.DEPLOYING)} | ({"hint": hint} if hint else {})
    return DeploymentError(ErrorCode.DEPLOY_FAILED, message, details=details)
