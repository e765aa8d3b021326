"""Caddy, as the edge that serves releases: its configuration, and what asks it.

Rules:
1. Its configuration is the same whatever is published: Caddy drops connections when it takes a new one. Each request
   looks up its host's release in the directory that `Hosts` keeps, once, and all of its answer is from that release.
2. What the edge knows can be lost or old; `ensure` gives it the configuration again.
3. A change counts once the public address answers with the release that it is about.
"""

import asyncio
import re
import string
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from domain.errors import DeploymentError, ErrorCode
from providers.internal.hosts import HOST, hosts_of

ANSWERED_BY = "X-Headway-Deployment"
_UNIX = "unix/"
_PATIENCE_SECONDS = 10.0
_TRIES = 3
_AWAY = frozenset({502, 503, 504})
"""What somebody in front of an edge says that is away."""
_SPECIAL = re.compile(r"[*?\[\]{}\\\x00-\x1f]")
_SHOWN = "* ? [ ] { } \\"
_Json = dict[str, Any]


class Edge:
    """`admin_url` is `http://host:port` or `unix//path/to/socket`; `public_url` is where sites are reached.

    Sites are subdomains of `sites_domain`.
    """

    def __init__(self, admin_url: str, public_url: str, sites_domain: str = "localhost") -> None:
        self.public_url = public_url.rstrip("/")
        self.sites_domain = sites_domain
        self.admin_socket = admin_url.removeprefix(_UNIX) if admin_url.startswith(_UNIX) else None
        # Caddy opens its admin endpoint anew with a configuration: connections are not kept, and requests take turns.
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

    async def ensure(self, releases: Path) -> bool:
        """Gives the edge the configuration that serves these releases; whether it had another one, or none."""
        loaded = (await self._ask("GET", "/config/")).json() or {}
        apps = loaded.get("apps") or {}
        http = apps.get("http") or {}
        servers = http.get("servers") or {}
        known = servers.get("headway") or {}
        public = urlsplit(self.public_url)
        interface = "127.0.0.1" if public.hostname in {"localhost", "127.0.0.1"} else ""
        address = known.get("listen", [f"{interface}:{public.port or 80}"])[0]
        wanted = {**known, **_server(address, releases)}
        if wanted == known:
            return False
        servers = {**servers, "headway": wanted}
        await self._ask("POST", "/load", {**loaded, "apps": {**apps, "http": {**http, "servers": servers}}})
        return True

    async def check(self, host: str, deployment_id: str) -> None:
        """Returns once the public address answers for this host with this release.

        Raises:
            DeploymentError: deploy-failed when it answers otherwise for ten seconds; provider-error when it was away.
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        away, seen = None, "nothing"
        while time.monotonic() < until:
            try:
                answer = await self._public.get(self.public_url + "/", headers={"Host": host})
            except httpx.HTTPError as problem:
                away = type(problem).__name__
            else:
                if answer.headers.get(ANSWERED_BY) == deployment_id:
                    return
                seen = f"status {answer.status_code}"
                away = seen if answer.status_code in _AWAY else away
            await asyncio.sleep(0.05)
        if away is not None:
            raise DeploymentError(ErrorCode.PROVIDER_ERROR, f"the edge is out of reach at {self.public_url}: {away}")
        raise DeploymentError(
            ErrorCode.DEPLOY_FAILED, f"{self.url_of(host)} does not answer with this deployment ({seen})"
        )

    async def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        async with self._turn:
            for rest in reversed(range(_TRIES)):
                try:
                    return _accepted(await self._admin.request(method, path, json=body))
                except httpx.HTTPError as problem:
                    if not rest:
                        message = f"the edge is out of reach: {type(problem).__name__}"
                        raise DeploymentError(ErrorCode.PROVIDER_ERROR, message) from problem
                await asyncio.sleep(0.05)
        raise AssertionError("unreachable: the last try returns or raises")


def check_directory(path: Path) -> None:
    """Refuses a directory that the edge would not find, since it reads its name as a pattern.

    Raises:
        DeploymentError: invalid-request.
    """
    if _SPECIAL.search(str(path)):
        accepted = f"accepted is a path without control characters and without {_SHOWN}"
        raise DeploymentError(ErrorCode.INVALID_REQUEST, f"the edge cannot serve from {str(path)!r}; {accepted}")


def base_config(edge_address: str, admin_address: str, releases: Path) -> _Json:
    """What Caddy starts with, and stays with. Addresses are Caddy's (`127.0.0.1:80`, `unix//run/admin.sock|0600`)."""
    return {
        "admin": {"listen": admin_address, "config": {"persist": False}},
        "apps": {"http": {"servers": {"headway": _server(edge_address, releases)}}},
    }


def _server(address: str, releases: Path) -> _Json:
    """A host that is none of ours, and one that `Hosts` does not have, come to the last route.

    Without that one, Caddy answers them with an empty 200.
    """
    host = {"{http.request.host}": {"name": "host", "pattern": f"^{HOST}$"}}
    newest = {"root": str(hosts_of(releases)), "try_files": ["/{http.regexp.host.0}/*"], "try_policy": _NEWEST}
    release = {"{http.matchers.file.relative}": {"name": "release", "pattern": "[^/]+$"}}
    serve = {"match": [{"vars_regexp": release}], "handle": [_subroute(_site(f"{releases}/{_RELEASE}/files"))]}
    find = {"match": [{"file": newest}], "handle": [_subroute({"routes": [serve]})]}
    routes = [
        _IN_LOWER_CASE,
        {"match": [{"vars_regexp": host}], "handle": [_subroute({"routes": [find]})]},
        {"handle": [{"handler": "static_response", "status_code": 404, "body": "There is no site of this name.\n"}]},
    ]
    return {"listen": [address], "automatic_https": {"disable": True}, "routes": routes}


_IN_LOWER_CASE: _Json = {
    "match": [{"vars_regexp": {"{http.request.host}": {"pattern": "[A-Z]"}}}],
    "handle": [
        {
            "handler": "headers",
            "request": {
                "replace": {"Host": [{"search": one, "replace": one.lower()} for one in string.ascii_uppercase]}
            },
        }
    ],
}
"""Names of hosts are the same in any case (RFC 9110, section 4.2.3); Caddy has no word for that but this one."""
_RELEASE = "{http.regexp.release.0}"
_NEWEST = "most_recently_modified"


def _site(root: str) -> _Json:
    """A release's files as they are, `/about` for `about.html`, a directory's index, the site's own 404 page."""
    headers = {ANSWERED_BY: [_RELEASE], "Cache-Control": ["public, max-age=0, must-revalidate"]}
    hidden = {"path_regexp": {"pattern": r"/\."}, "not": [{"path": ["/.well-known/*"]}]}
    page = {"file": {"root": root, "try_files": ["{http.request.uri.path}", "{http.request.uri.path}.html"]}}
    own_404 = {"file": {"root": root, "try_files": ["/404.html"]}}
    to_match: _Json = {"handler": "rewrite", "uri": "{http.matchers.file.relative}"}
    serve = {"handler": "file_server", "root": root}
    return {
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


def _subroute(routes: _Json) -> _Json:
    return {"handler": "subroute", **routes}


def _accepted(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise DeploymentError(
            ErrorCode.PROVIDER_ERROR, f"the edge refused a change with status {answer.status_code}: {answer.text[:300]}"
        )
    return answer
