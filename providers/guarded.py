"""httpx behind the address guard: a connection goes to an address that was checked, never to a name looked up again.

Rule: every client that reaches an address which somebody else can set is made with `GuardedTransport`.
"""

import asyncio
import functools
import ssl
from collections.abc import Iterable

import httpcore
import httpx

from domain.errors import DeploymentError
from providers.addresses import Address, check_host

ADDRESS_SECONDS = 2.0
"""A host may have addresses that do not answer from here (IPv6): the next one gets its turn."""


class GuardedTransport(httpx.AsyncHTTPTransport):
    """HTTP/1.1 without proxies. TLS still asks for the name, whatever address the connection goes to."""

    def __init__(self, limits: httpx.Limits, *, allow_private_addresses: bool) -> None:
        context = _tls()
        super().__init__(verify=context, limits=limits, trust_env=False)
        # httpx has no argument for httpcore's (public) network backend: the pool is made again with it.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_GuardedBackend(allow_private_addresses),
        )


@functools.cache
def _tls() -> ssl.SSLContext:
    """One for all: reading the authorities takes a quarter of a second."""
    return httpx.create_ssl_context(trust_env=False)


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, allow_private_addresses: bool) -> None:
        self._allow_private = allow_private_addresses
        self._below = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """The first address that answers, all of them within `timeout`."""
        refused: Exception = httpcore.ConnectError("no address")
        each = ADDRESS_SECONDS if timeout is None else min(timeout, ADDRESS_SECONDS)
        try:
            async with asyncio.timeout(timeout):
                for address in await self._addresses(host, port):
                    try:
                        return await self._below.connect_tcp(str(address), port, each, local_address, socket_options)
                    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                        refused = error
        except TimeoutError:
            raise httpcore.ConnectTimeout from None
        raise refused

    async def _addresses(self, host: str, port: int) -> list[Address]:
        try:
            return await asyncio.to_thread(check_host, host, port, allow_private=self._allow_private)
        except DeploymentError as error:
            if error.retryable:  # nothing resolves: as if nothing answered
                raise httpcore.ConnectError(error.message) from None
            raise

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
