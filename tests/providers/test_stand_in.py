"""The judge of stand-ins bites: for each operation that we use, something wrong is found. And the faults happen."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers.stand_in import Description, StandIn
from tests.providers.trim_specs import OPERATIONS

ENDPOINTS = [
    (name, method, path) for name, paths in OPERATIONS.items() for path, methods in paths.items() for method in methods
]


def request_to(method: str, path: str, query: str = "", **headers: str) -> Request:
    """As a server would have received it."""
    return Request(
        {
            "type": "http",
            "method": method.upper(),
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "path": path.replace("{", "").replace("}", ""),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )


@pytest.mark.parametrize(("name", "method", "path"), ENDPOINTS)
def test_each_endpoint_in_use_has_a_judge_that_finds_what_is_wrong(name: str, method: str, path: str) -> None:
    judge = Description.named(name)
    operation = judge.document["paths"][path][method]
    request = request_to(method, path)

    assert judge.of_request(request_to(method, path, "bogus=1", authorization="Bearer x"), b"")
    assert judge.of_answer(request, Response(status_code=299))
    for status, answer in operation["responses"].items():
        if status.startswith("2") and "application/json" in answer.get("content", {}):
            assert judge.of_answer(request, JSONResponse("no such thing", int(status)))
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        sent = request_to(method, path, **{"content-type": "application/json", "authorization": "Bearer x"})
        assert judge.of_request(sent, b'"no such thing"')


class Acme(StandIn):
    description = "github"

    def routes(self) -> list[Route]:
        return [Route("/repos/{owner}/{repo}/pages/builds", self.build, methods=["POST"])]

    async def build(self, request: Request) -> Response:
        self.creates[request.path_params["repo"]] += 1
        return JSONResponse({"url": "https://example.org/1", "status": "queued"}, 201)


@pytest.fixture
async def acme() -> AsyncIterator[Acme]:
    async with Acme().running() as server:
        yield server


async def post(server: Acme, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.url) as client:
        return await client.post("/repos/o/r/pages/builds", **options)


async def test_what_fits_passes_and_is_recorded(acme: Acme) -> None:
    answer = await post(acme)

    assert answer.json()["status"] == "queued"
    assert [(request.method, request.path) for request in acme.requests] == [("POST", "/repos/o/r/pages/builds")]
    assert acme.creates == {"r": 1}


async def test_a_request_that_does_not_fit_is_a_violation() -> None:
    with pytest.raises(AssertionError, match="bogus"):
        async with Acme().running() as acme:
            await post(acme, params={"bogus": "1"})


async def test_an_answer_that_does_not_fit_is_a_violation() -> None:
    class Broken(Acme):
        async def build(self, request: Request) -> Response:
            return JSONResponse({"url": 7}, 201)

    with pytest.raises(AssertionError, match="answer POST"):
        async with Broken().running() as broken:
            await post(broken)


async def test_a_fault_happens_as_often_as_was_asked_for(acme: Acme) -> None:
    acme.fault("status", "POST", "builds$", times=2, status=503, headers={"retry-after": "1"})

    answers = [await post(acme) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [503, 503, 201]
    assert answers[0].headers["retry-after"] == "1"
    assert acme.creates == {"r": 1}


async def test_a_reset_does_nothing_and_a_lost_answer_was_done(acme: Acme) -> None:
    acme.fault("reset")
    with pytest.raises(httpx.TransportError):
        await post(acme)
    assert acme.creates == {}

    acme.fault("lost")
    with pytest.raises(httpx.TransportError):
        await post(acme)
    assert acme.creates == {"r": 1}


async def test_an_answer_may_be_huge_or_twisted(acme: Acme) -> None:
    acme.fault("huge", size=1024 * 1024)
    assert len((await post(acme)).content) > 1024 * 1024 - 65536

    acme.fault("twisted", twist=lambda body: {**body, "status": json.loads("7")})
    assert (await post(acme)).json()["status"] == 7
