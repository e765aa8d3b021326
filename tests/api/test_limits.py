"""The trigger limit: exact over two processes, and told on every answer of the limited routes."""

import asyncio
import re
from typing import Any

from tests.api.conftest import PROJECT, Api, Start

TRIGGER = {"projectId": "site", "sourceRef": "main"}
POLICY = '"trigger";q=10;w=60'


def left(answer: Any) -> tuple[int, int]:
    match = re.fullmatch(r'"trigger";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
    assert match
    return int(match[1]), int(match[2])


async def test_two_processes_together_accept_exactly_the_limit(start: Start) -> None:
    apps = [await start(), await start()]
    await apps[0].make("/v1/projects", {**PROJECT, "concurrency": "parallel"})
    answers = await asyncio.gather(*(apps[number % 2]("POST", "/v1/deployments", TRIGGER) for number in range(30)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(202), statuses.count(429)) == (10, 20)
    for answer in answers:
        assert answer.headers["RateLimit-Policy"] == POLICY
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert left(refused)[0] == 0
    assert 0 < left(refused)[1] <= int(refused.headers["Retry-After"]) + 1 <= 62
    assert refused.json()["violated-policies"] == ["trigger"]
    assert refused.json()["retryable"]


async def test_what_is_left_counts_down_with_what_is_accepted(api: Api, site: dict[str, Any]) -> None:
    first = await api("POST", "/v1/deployments", TRIGGER)
    assert (first.status_code, left(first)[0]) == (202, 9)
    busy = await api("POST", "/v1/deployments", TRIGGER)
    assert (busy.status_code, left(busy)[0]) == (409, 9)
    forced = await api("POST", "/v1/deployments", {**TRIGGER, "force": True})
    assert (forced.status_code, left(forced)[0]) == (202, 8)


async def test_errors_of_a_limited_route_tell_the_policy(api: Api, site: dict[str, Any]) -> None:
    retried = f"/v1/deployments/{MISSING}/retry"
    for path, body in (("/v1/deployments", {}), ("/v1/deployments", {**TRIGGER, "projectId": "no"}), (retried, {})):
        answer = await api("POST", path, body)
        assert answer.status_code in {404, 422}
        assert answer.headers["RateLimit-Policy"] == POLICY
        assert "RateLimit" not in answer.headers
    assert (await api.client.post("/v1/deployments")).headers["RateLimit-Policy"] == POLICY
    assert "RateLimit-Policy" not in (await api("GET", "/v1/projects")).headers


MISSING = "00000000-0000-7000-8000-000000000000"
