"""Hosts and their releases: nobody who asks meanwhile gets nothing or a mix, and no host leads elsewhere."""

import asyncio
import os
from collections import Counter
from pathlib import Path

import httpx
import pytest

from providers.base import RemovedEnvironment
from providers.internal.edge import ANSWERED_BY, Edge
from providers.internal.hosts import Hosts
from providers.internal.provider import Internal
from tests.providers.conftest import ANY_REQUEST
from tests.providers.internal.test_edge import admin, release

HOST = "production.shop.localhost"
PAGES = {"": 200, "only": 200, "none": 404}
"""What a visitor asks for; `only` is a page that the new release does not have."""


class Visitors:
    """Clients that ask without a pause, half of them by a connection for each request."""

    def __init__(self, edge: Edge, hosts: list[str]) -> None:
        self.seen: dict[str, Counter[tuple[str | None, str, int, str]]] = {host: Counter() for host in hosts}
        self._edge = edge
        self._leave = asyncio.Event()

    async def __aenter__(self) -> "Visitors":
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        for host in self.seen:
            for kept in (0, 1, 0, 1):
                self._group.create_task(self._visit(host, httpx.Limits(max_keepalive_connections=kept)))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._leave.set()
        await self._group.__aexit__(None, None, None)

    async def asked(self, times: int) -> None:
        """Until each host was asked so many times more."""
        goal = {host: seen.total() + times for host, seen in self.seen.items()}
        while any(seen.total() < goal[host] for host, seen in self.seen.items()):
            await asyncio.sleep(0.005)

    async def _visit(self, host: str, limits: httpx.Limits) -> None:
        async with httpx.AsyncClient(base_url=self._edge.public_url, limits=limits, headers={"Host": host}) as http:
            while not self._leave.is_set():
                for page in PAGES:
                    try:
                        answer = await http.get(f"/{page}")
                    except httpx.TransportError as error:
                        self.seen[host][None, page, 0, repr(error)] += 1
                    else:
                        about = answer.headers.get(ANSWERED_BY), page, answer.status_code, answer.text
                        self.seen[host][about] += 1


def answers(identity: str, says: str, *, only: bool) -> set[tuple[str | None, str, int, str]]:
    pages = {
        "": (200, says),
        "only": (200, f"{says} only") if only else (404, f"{says} 404"),
        "none": (404, f"{says} 404"),
    }
    return {(identity, page, *answer) for page, answer in pages.items()}


async def test_fifty_publications_and_rollbacks_drop_no_request_and_mix_nothing(internal: Internal, edge: Edge) -> None:
    old = release(internal, {"index.html": "old", "only.html": "old only", "404.html": "old 404"})
    new = release(internal, {"index.html": "new", "404.html": "new 404"})
    await internal.publish_build(ANY_REQUEST, old)
    async with admin(edge) as asked:
        before = (await asked.get("/config/")).json()
        async with Visitors(edge, [HOST]) as visitors:
            for number in range(50):
                await internal.publish_build(ANY_REQUEST, (new, old)[number % 2])
                await visitors.asked(4)
        assert (await asked.get("/config/")).json() == before

    both = answers(old.deployment_id, "old", only=True) | answers(new.deployment_id, "new", only=False)
    assert set(visitors.seen[HOST]) == both


async def test_a_site_comes_and_goes_without_a_dropped_request_to_it_or_to_others(
    internal: Internal, edge: Edge
) -> None:
    files = {"index.html": "site", "404.html": "site 404"}
    stays, comes = release(internal, files), release(internal, files, project="other")
    other = HOST.replace("shop", "other")
    await internal.publish_build(ANY_REQUEST, stays)
    async with Visitors(edge, [HOST, other]) as visitors:
        await visitors.asked(8)
        await internal.publish_build(ANY_REQUEST, comes)
        await visitors.asked(8)
        await internal.take_down(
            RemovedEnvironment(project_id="other", environment="production", deployment_ids=[comes.deployment_id])
        )
        await visitors.asked(8)

    assert set(visitors.seen[HOST]) == answers(stays.deployment_id, "site", only=False)
    nothing = {(None, page, 404, "There is no site of this name.\n") for page in PAGES}
    assert set(visitors.seen[other]) == answers(comes.deployment_id, "site", only=False) | nothing


@pytest.mark.parametrize(
    "host",
    [
        *("", ".", "..", "../..", "../x", f"../.hosts/{HOST}", f"{HOST}/.", f"x/../{HOST}", f"\\{HOST}"),
        *(
            "%2e%2e",
            "..%2f..",
            f"%2e/{HOST}",
            "*",
            "*.*.*",
            f"?{HOST[1:]}",
            f"[a-z]{HOST[1:]}",
            "{http.request.uri.path}",
        ),
        *(f"{HOST}.", f".{HOST}", f"-{HOST}", f"{HOST}:80:80", f"old-{HOST}", f".old-{HOST}"),
        *(
            "[::1]",
            "[::1]:80",
            "127.0.0.1",
            "localhost",
            "shop.localhost",
            "a" * 300,
            ".".join(["a" * 60] * 5),
            "a." * 4000,
        ),
    ],
)
async def test_a_host_that_is_none_of_ours_is_not_found(internal: Internal, edge: Edge, host: str) -> None:
    await internal.publish_build(ANY_REQUEST, release(internal, {"index.html": "home"}))
    left = internal.hosts.root / f".old-{HOST}"
    left.mkdir(exist_ok=True)
    (left / internal.releases.all()[0].deployment_id).touch()

    status, said = await raw(edge, host)

    assert status in {400, 404}
    assert ANSWERED_BY.lower() not in said.lower()
    assert (await raw(edge, f"{HOST}:8081"))[0] == 200


async def raw(edge: Edge, host: str) -> tuple[int, str]:
    """As no client would send it."""
    url = httpx.URL(edge.public_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    said = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return int(said.split()[1]), said


def served(hosts: Hosts) -> list[str]:
    entries = (hosts.root / HOST).iterdir()
    return [entry.name for entry in sorted(entries, key=lambda entry: entry.stat().st_mtime_ns, reverse=True)]


def test_the_release_of_before_stays_for_a_change_longer(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    seen = []
    for name in ("one", "two", "three", "two", "three"):
        assert hosts.point(HOST, name)
        assert not hosts.point(HOST, name)
        seen.append(served(hosts))
    assert seen == [["one"], ["two", "one"], ["three", "two"], ["two", "three"], ["three", "two"]]


def test_a_clock_that_was_set_back_does_not_bring_back_what_was(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    hosts.point(HOST, "one")
    os.utime(tmp_path / ".hosts" / HOST / "one", (2e9, 2e9))
    hosts.point(HOST, "two")
    assert served(hosts) == ["two", "one"]


def test_hosts_become_what_they_are_told_whatever_a_death_left(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    for host in (HOST, "gone.shop.localhost"):
        hosts.point(host, "one")
    (hosts.root / f".old-{HOST}").mkdir()
    (hosts.root / f".new-{HOST}").touch()

    assert hosts.tell({HOST: "two"})
    assert not hosts.tell({HOST: "two"})

    assert [entry.name for entry in hosts.root.iterdir()] == [HOST]
    assert served(hosts) == ["two", "one"]
