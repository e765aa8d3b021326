"""Caddy, as the edge that serves releases: its configuration, and the changes made to it over its admin API.

Rules:
1. A host is one route with an id of its own; pointing it elsewhere replaces that route in one change.
2. What the edge knows can be lost at any time; `Sites` is the truth, and `tell` brings the edge in line with it.
3. A change counts once the public address answers with the release that it is about.
"""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from domain.errors import DeploymentError, ErrorCode

ANSWERED_BY = "X-Headway-Deployment"
_SERVER = "/config/apps/http/servers/headway"
_UNIX = "unix/"
_PATIENCE_SECONDS = 10.0
_TRIES = 3
_Json = dict[str, Any]


class Edge:
    """`admin_url` is `http://host:port` or `unix//path/to/socket`; `public_url` is where sites are reached.

    Sites are subdomains of `sites_domain`.
    """

    def __init__(self, admin_url: str, public_url: str, sites_domain: str = "localhost") -> None:
        self.public_url = public_url.rstrip("/")
        self.sites_domain = sites_domain
        self.admin_socket = admin_url.removeprefix(_UNIX) if admin_url.startswith(_UNIX) else None
        # Caddy opens its admin endpoint anew with every change: connections are not kept, and requests take turns.
        transport = httpx.AsyncHTTPTransport(uds=self.admin_socket, limits=httpx.Limits(max_keepalive_connections=0))
        base = "http://127.0.0.1" if self.admin_socket else admin_url
        self._admin = httpx.AsyncClient(base_url=base, transport=transport, timeout=10)
        self._turn = asyncio.Lock()
        self._public = httpx.AsyncClient(timeout=5, trust_env=False)

    async def close(self) -> None:
        await self._admin.aclose()
        await self._public.aclose()

    def url_of(self, host: str) -> str:
        """Where a host is reached from outside."""
        parts = urlsplit(self.public_url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{host}{port}/"

    async def ensure(self) -> None:
        """Loads the configuration without sites into an edge that has none, as after a restart."""
        loaded = (await self._ask("GET", "/config/")).json() or {}
        apps = loaded.get("apps") or {}
        if "headway" not in (apps.get("http") or {}).get("servers", {}):
            public = urlsplit(self.public_url)
            interface = "127.0.0.1" if public.hostname in {"localhost", "127.0.0.1"} else ""
            base = base_config(f"{interface}:{public.port or 80}", "")
            await self._ask("POST", "/load", {**loaded, "apps": {**apps, **base["apps"]}})

    async def point(self, host: str, files: Path, deployment_id: str) -> None:
        """Sends a host to a release, by one change."""
        route = _route(host, files, deployment_id)
        known = await self._admin_answer("PATCH", f"/id/{_id(host)}", route)
        if known.status_code == httpx.codes.NOT_FOUND:
            await self._ask("PUT", f"{_SERVER}/routes/0", route)
        else:
            _accepted(known)

    async def remove(self, host: str) -> None:
        """A host that is not there stays so."""
        answer = await self._admin_answer("DELETE", f"/id/{_id(host)}")
        if answer.status_code != httpx.codes.NOT_FOUND:
            _accepted(answer)

    async def tell(self, sites: Iterable[tuple[str, Path, str]]) -> bool:
        """Brings the edge in line with all (host, files, deployment); whether there was something to change."""
        await self.ensure()
        wanted = [_route(*site) for site in sites] + [_NO_SITE]
        told = (await self._ask("GET", f"{_SERVER}/routes")).json() or []
        if {route.get("@id"): route for route in told} == {route["@id"]: route for route in wanted}:
            return False
        await self._ask("PATCH", f"{_SERVER}/routes", wanted)
        return True

    async def check(self, host: str, deployment_id: str) -> None:
        """Returns once the public address answers for this host with this release.

        Raises:
            DeploymentError: deploy-failed when it does not within ten seconds.
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        seen = "nothing"
        while time.monotonic() < until:
            try:
                answer = await self._public.get(self.public_url + "/", headers={"Host": host})
            except httpx.HTTPError as problem:
                seen = type(problem).__name__
            else:
                if answer.headers.get(ANSWERED_BY) == deployment_id:
                    return
                seen = f"status {answer.status_code}"
            await asyncio.sleep(0.05)
        raise DeploymentError(
            ErrorCode.DEPLOY_FAILED, f"{self.url_of(host)} does not answer with this deployment ({seen})"
        )

    async def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        return _accepted(await self._admin_answer(method, path, body))

    async def _admin_answer(self, method: str, path: str, body: object = None) -> httpx.Response:
        """An insertion is not tried again: it could have been made."""
        tries = 1 if method == "PUT" else _TRIES
        async with self._turn:
            for rest in reversed(range(tries)):
                try:
                    return await self._admin.request(method, path, json=body)
                except httpx.HTTPError as problem:
                    if not rest:
                        message = f"the edge is out of reach: {type(problem).__name__}"
                        raise DeploymentError(ErrorCode.PROVIDER_ERROR, message) from problem
                await asyncio.sleep(0.05)
        raise AssertionError("unreachable: the last try returns or raises")


def base_config(edge_address: str, admin_address: str) -> _Json:
    """What Caddy starts with: no sites yet. Addresses are Caddy's (`127.0.0.1:80`, `unix//run/admin.sock|0600`)."""
    server = {"listen": [edge_address], "automatic_https": {"disable": True}, "routes": [_NO_SITE]}
    return {
        "admin": {"listen": admin_address, "config": {"persist": False}},
        "apps": {"http": {"servers": {"headway": server}}},
    }


_NO_SITE: _Json = {
    "@id": "no-site",
    "handle": [{"handler": "static_response", "status_code": 404, "body": "There is no site of this name.\n"}],
}
"""The last route: without it, Caddy answers an unknown host with an empty 200."""


def _id(host: str) -> str:
    return f"site-{host}"


def _route(host: str, files: Path, deployment_id: str) -> _Json:
    """A host's route: files as they are, `/about` for `about.html`, a directory's index, the site's own 404 page."""
    root = str(files)
    headers = {ANSWERED_BY: [deployment_id], "Cache-Control": ["public, max-age=0, must-revalidate"]}
    hidden = {"path_regexp": {"pattern": r"/\."}, "not": [{"path": ["/.well-known/*"]}]}
    page = {"file": {"root": root, "try_files": ["{http.request.uri.path}", "{http.request.uri.path}.html"]}}
    own_404 = {"file": {"root": root, "try_files": ["/404.html"]}}
    to_match: _Json = {"handler": "rewrite", "uri": "{http.matchers.file.relative}"}
    serve = {"handler": "file_server", "root": root}
    site = {
        "handler": "subroute",
        "routes": [
            {"handle": [{"handler": "headers", "response": {"set": headers}}]},
            {"match": [hidden], "handle": [{"handler": "error", "status_code": 404}]},
            {"handle": [{"handler": "encode", "encodings": {"gzip": {}}}]},
            {"match": [page], "handle": [to_match]},
            {"handle": [serve]},
        ],
        "errors": {
            "routes": [
                {"match": [own_404], "handle": [to_match, {**serve, "status_code": "{http.error.status_code}"}]},
                {"handle": [{"handler": "static_response", "status_code": "{http.error.status_code}"}]},
            ]
        },
    }
    return {"@id": _id(host), "match": [{"host": [host]}], "handle": [site], "terminal": True}


def _accepted(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise DeploymentError(
            ErrorCode.PROVIDER_ERROR, f"the edge refused a change with status {answer.status_code}: {answer.text[:300]}"
        )
    return answer
