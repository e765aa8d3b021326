"""The audit over HTTP: who sees what of it, each entry with its token and request, and what verifying answers."""

import asyncio
import json
from typing import Any

import psycopg
import pytest

from tests.api.conftest import PROJECT, Api

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
NDJSON = {"Accept": "application/x-ndjson"}


async def listed(api: Api, query: str = "", **options: Any) -> list[dict[str, Any]]:
    answer = await api("GET", f"/v1/audit{query}", **options)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


@pytest.fixture
async def other(api: Api, site: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = await api.make("/v1/projects", {**PROJECT, "id": "other"})
    return made


async def test_an_entry_names_actor_token_request_and_reason(api: Api, site: dict[str, Any]) -> None:
    made = await api.make("/v1/tokens", {"subject": "ci", "scopes": ["deploy"], "projects": ["site"]})
    body = {"projectId": "site", "sourceRef": "main", "message": "the new page"}
    deployment = await api.make("/v1/deployments", body, headers=TRACEPARENT, token=made["token"])
    entry, *_ = await listed(api, "?projectId=site")
    assert {name: entry[name] for name in ("actor", "action", "target", "tokenId", "requestId", "reason")} == {
        "actor": "ci",
        "action": "deployment.trigger",
        "target": deployment["id"],
        "tokenId": made["id"],
        "requestId": TRACE,
        "reason": "the new page",
    }
    assert entry["before"] is None
    assert entry["after"].startswith("sha256:")
    assert made["token"] not in json.dumps(await listed(api))


async def test_requests_at_once_do_not_take_each_others_names(api: Api, site: dict[str, Any]) -> None:
    made = [
        await api.make("/v1/tokens", {"subject": f"admin-{number}", "scopes": ["admin"], "projects": ["*"]})
        for number in range(5)
    ]

    async def create(number: int) -> None:
        token = made[number % 5]
        headers = {"traceparent": f"00-{number + 1:032x}-00f067aa0ba902b7-01"}
        await api.make("/v1/projects/site/environments", {"name": f"e{number}"}, headers=headers, token=token["token"])

    await asyncio.gather(*(create(number) for number in range(20)))
    told = {one["details"]["name"]: one for one in await listed(api, "?action=environment.create&limit=100")}
    for number in range(20):
        entry = told[f"e{number}"]
        assert entry["requestId"] == f"{number + 1:032x}"
        assert (entry["actor"], entry["tokenId"]) == (f"admin-{number % 5}", made[number % 5]["id"])


async def test_the_list_is_filtered_and_paged(api: Api, other: dict[str, Any]) -> None:
    await api.make("/v1/deployments", {"projectId": "site", "sourceRef": "main"})
    assert [one["action"] for one in await listed(api, "?projectId=site&action=deployment.trigger")] == [
        "deployment.trigger"
    ]
    assert {one["projectId"] for one in await listed(api)} == {"site", "other", None}
    assert await listed(api, "?actor=nobody") == []
    everything = await listed(api)
    since = everything[1]["at"]
    assert everything[0] in await listed(api, f"?since={since}")
    assert await listed(api, "?since=2100-01-01T00:00:00Z") == []
    assert await listed(api, "?until=2100-01-01T00:00:00Z") == everything
    first = await api("GET", "/v1/audit?limit=2")
    following = await api("GET", first.links["next"]["url"])
    assert first.json()["items"] + following.json()["items"] == everything[:4]
    for wrong in ("?since=yesterday", "?limit=0", "?cursor=x"):
        assert (await api("GET", f"/v1/audit{wrong}")).status_code == 422


async def test_a_bound_token_sees_its_projects_and_nothing_of_others(api: Api, other: dict[str, Any]) -> None:
    bound = await api.token("admin", projects=["site"])
    assert {one["projectId"] for one in await listed(api, token=bound)} == {"site"}
    exported = await api("GET", "/v1/audit", headers=NDJSON, token=bound)
    assert {json.loads(line)["projectId"] for line in exported.text.splitlines()} == {"site"}
    report = (await api("GET", "/v1/audit/verify", token=bound)).json()
    assert [chain["projectId"] for chain in report["chains"]] == ["site"]
    head = "0" * 64
    for path in ("?projectId={}", "/verify?projectId={}", f"/verify?anchor={{}}:1:{head}"):
        answers = [await api("GET", f"/v1/audit{path.format(name)}", token=bound) for name in ("other", "missing")]
        assert [answer.status_code for answer in answers] == [404, 404]
        told = [
            answer.json()["detail"].replace(name, "X")
            for answer, name in zip(answers, ("other", "missing"), strict=True)
        ]
        assert told[0] == told[1]
    assert (await api("GET", f"/v1/audit/verify?anchor=-:1:{head}", token=bound)).status_code == 404


@pytest.mark.parametrize("path", ["/v1/audit", "/v1/audit/verify"])
async def test_it_is_for_admins(api: Api, path: str) -> None:
    lacking = await api.token("read", "deploy", "approve")
    assert (await api("GET", path, token=lacking)).status_code == 403
    assert (await api("GET", path, token=await api.token("admin"))).status_code == 200


async def test_an_export_has_all_of_it_oldest_first(api: Api, site: dict[str, Any]) -> None:
    for number in range(600):
        await api.services.tokens.ensure_first(f"hw_{number}")
    exported = await api("GET", "/v1/audit", headers=NDJSON)
    assert exported.headers["Content-Type"].startswith("application/x-ndjson")
    entries = [json.loads(line) for line in exported.text.splitlines()]
    own = [one["sequence"] for one in entries if one["projectId"] is None]
    assert own == list(range(1, 602))
    assert [one["action"] for one in entries if one["projectId"] == "site"] == ["project.create", "environment.create"]


async def test_verifying_answers_anchors_that_hold_until_somebody_tampers(
    api: Api, other: dict[str, Any], database_url: str
) -> None:
    report = (await api("GET", "/v1/audit/verify")).json()
    assert (report["valid"], report["faults"], len(report["chains"])) == (True, [], 3)
    assert report["entries"] == sum(chain["entries"] for chain in report["chains"])
    kept = "&".join(f"anchor={chain['anchor']}" for chain in report["chains"])
    await api.make("/v1/projects/site/environments", {"name": "later"})
    assert (await api("GET", f"/v1/audit/verify?{kept}")).json()["valid"]
    assert (await api("GET", f"/v1/audit/verify?projectId=other&{kept}")).json()["valid"]
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute("alter table audit disable trigger all")
        await connection.execute("update audit set actor = 'eve' where project_id = 'site' and sequence = 2")
    answer = await api("GET", f"/v1/audit/verify?projectId=site&{kept}")
    assert answer.status_code == 200
    assert answer.json()["faults"] == [{"where": "site:2", "what": "it was changed after it was written"}]
    assert (await api("GET", "/v1/audit/verify?projectId=other")).json()["valid"]
    gone = (await api("GET", f"/v1/audit/verify?projectId=other&anchor=other:99:{'0' * 64}")).json()
    assert gone["faults"] == [{"where": "other:99", "what": "the anchor's entry is gone"}]
    assert (await api("GET", "/v1/audit/verify?anchor=other:1")).status_code == 422
