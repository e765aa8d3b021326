"""One intent, one effect: what an Idempotency-Key answers, and that nothing is done twice, however much at once."""

import asyncio
from typing import Any

import pytest

from tests.api.conftest import PROJECT, Api, Start

TRIGGER = {"projectId": "site", "sourceRef": "main"}


async def trigger(api: Api, key: str | None = None, **more: Any) -> Any:
    return await api(
        "POST", "/v1/deployments", {**TRIGGER, **more}, {"Idempotency-Key": key} if key is not None else {}
    )


@pytest.mark.parametrize("again", ['"k 1"', "k 1"])
async def test_the_same_key_and_body_get_the_first_answer_again(api: Api, site: dict[str, Any], again: str) -> None:
    first, second = await trigger(api, '"k 1"'), await trigger(api, again)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.content == second.content
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]


async def test_the_order_of_members_and_the_place_of_the_key_do_not_matter(api: Api, site: dict[str, Any]) -> None:
    first = await trigger(api, idempotencyKey="k")
    body = {"idempotencyKey": "k", "sourceRef": "main", "projectId": "site"}
    again = await api("POST", "/v1/deployments", body, {"Idempotency-Key": "k"})
    only_header = await trigger(api, "k")
    assert first.json()["id"] == again.json()["id"] == only_header.json()["id"]


async def test_the_same_key_with_another_body_is_refused(api: Api, site: dict[str, Any]) -> None:
    await trigger(api, "k")
    answer = await trigger(api, "k", message="another")
    assert (answer.status_code, answer.json()["code"]) == (422, "deployment/idempotency-mismatch")


@pytest.mark.parametrize("key", ["", '""', '"open', "x" * 256, "\x7f", '"bad \\escape"'])
async def test_a_key_that_cannot_be_read_is_refused(api: Api, site: dict[str, Any], key: str) -> None:
    answer = await trigger(api, key)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/header/Idempotency-Key")


async def test_two_different_keys_are_refused(api: Api, site: dict[str, Any]) -> None:
    answer = await trigger(api, "a", idempotencyKey="b")
    assert answer.status_code == 400


async def test_a_key_belongs_to_its_project_and_route(api: Api, site: dict[str, Any]) -> None:
    await api.make("/v1/projects", {**PROJECT, "id": "other"})
    here, there = await trigger(api, "k"), await trigger(api, "k", projectId="other")
    assert here.json()["id"] != there.json()["id"]
    environment = await api("POST", "/v1/projects/site/environments", {"name": "staging"}, {"Idempotency-Key": "k"})
    assert environment.status_code == 201


async def test_what_was_refused_may_be_tried_again_with_its_key(api: Api, site: dict[str, Any]) -> None:
    refused = await trigger(api, "k", sourceRef="-x")
    assert refused.status_code == 422
    assert (await trigger(api, "k")).status_code == 202


async def test_a_project_is_made_once(api: Api) -> None:
    answers = [await api("POST", "/v1/projects", PROJECT, {"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert (await api("POST", "/v1/projects", PROJECT)).status_code == 409


async def test_fifty_at_once_with_one_key_make_one_deployment(api: Api, start: Start, site: dict[str, Any]) -> None:
    apps = [api, await start()]
    answers = await asyncio.gather(*(trigger(apps[number % 2], "k") for number in range(50)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert (await api("GET", "/v1/projects/site/deployments")).json()["total"] == 1


async def test_a_hundred_at_once_on_one_lane_leave_one(start: Start) -> None:
    apps = [await start(trigger_limit=1000), await start(trigger_limit=1000)]
    await apps[0].make("/v1/projects", PROJECT)
    answers = await asyncio.gather(*(trigger(apps[number % 2]) for number in range(100)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 99
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"deployment/already-running"}
