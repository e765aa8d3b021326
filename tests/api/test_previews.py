"""Previews over HTTP: pushes of a branch that no rule names, its deletion, and triggers that ask for one."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from store.database import Database
from store.environments import EnvironmentStore
from store.pushes import PushStore
from store.seal import Sealer
from tests.api.conftest import Api
from tests.api.test_webhooks import RULES, SHOP, api, deployments, pushes, send, state_of, webhooks
from tests.providers.signing import ZEROS, commit, github_push, gitlab_push
from tests.servers import eventually

__all__ = ["api", "pushes"]

PREVIEWS: dict[str, Any] = {"refs": ["feature/*"], "ttlSeconds": 3600}
BRANCH = "refs/heads/feature/x"


@pytest.fixture
async def shop(api: Api) -> str:
    await api.make("/v1/projects", {**SHOP, "pushRules": RULES, "previews": PREVIEWS, "concurrency": "parallel"})
    return "shop"


@pytest.fixture
def environments(database: Database) -> EnvironmentStore:
    return EnvironmentStore(database)


async def previews(api: Api) -> list[dict[str, Any]]:
    items = (await api("GET", "/v1/projects/shop/environments?limit=100")).json()["items"]
    return [one for one in items if one["branch"] is not None]


async def settled(api: Api, pushes: PushStore) -> None:
    """All pushes have come to something; the API's own courier may be about one of them."""

    async def nothing_waits() -> bool:
        await pushes.trigger_due()
        return await webhooks(api, "state=pending") == []

    await eventually(nothing_waits)


@pytest.mark.parametrize("make", [github_push, gitlab_push])
async def test_a_branch_lives_and_dies_with_its_environment(
    api: Api, shop: str, pushes: PushStore, environments: EnvironmentStore, make: Any
) -> None:
    sender = "github" if make is github_push else "gitlab"
    to = f"{sender}/shop"
    assert await state_of(api, sender, make(ZEROS, commit(1), ref=BRANCH), to=to) == "pending"
    await settled(api, pushes)
    [environment] = await previews(api)
    assert (environment["name"], environment["branch"]) == ("preview-feature-x", "feature/x")
    [deployment] = await deployments(api)
    assert (deployment["environmentId"], deployment["commitSha"]) == (environment["id"], commit(1))
    assert (await webhooks(api))[0]["triggers"][0]["environment"] == "preview-feature-x"
    assert await state_of(api, sender, make(commit(1), ZEROS, ref=BRANCH), to=to, message="m2") == "ignored"
    [deployment] = await deployments(api)
    assert deployment["cancelRequestedAt"] is not None
    [expired] = await previews(api)
    assert expired["expiresAt"] < environment["expiresAt"]
    await environments.expire_due()
    assert await previews(api) == [expired], "it waits for what runs there"
    await api.services.database.fetch_all("update deployments set status = 'canceled' returning 1")
    await environments.expire_due()
    assert await previews(api) == []
    assert (await api("GET", f"/v1/deployments/{deployment['id']}")).status_code == 200
    actions = [one["action"] for one in (await api("GET", "/v1/audit?projectId=shop")).json()["items"]]
    assert actions[:2] == ["environment.delete", "push.accept"]
    assert {"environment.expire", "deployment.cancel"} <= set(actions)


async def test_a_branch_that_a_rule_names_gets_no_preview_and_what_previews_do_not_name_neither(
    api: Api, pushes: PushStore
) -> None:
    await api.make("/v1/projects", {**SHOP, "pushRules": RULES, "previews": {"refs": ["*"]}})
    await send(api, "github", github_push(ZEROS, commit(1)))
    await settled(api, pushes)
    assert [one["configuration"]["environment"] for one in await deployments(api)] == ["production"]
    await api("PATCH", "/v1/projects/shop", {"previews": PREVIEWS})
    assert await state_of(api, "github", github_push(ZEROS, commit(1), ref="refs/heads/other")) == "ignored"
    assert await previews(api) == []


async def test_pushes_of_one_new_branch_at_once_make_one_environment(api: Api, shop: str, pushes: PushStore) -> None:
    steps = [ZEROS, *(commit(number) for number in range(1, 51))]
    documents = [github_push(a, b, ref=BRANCH) for a, b in pairwise(steps)]
    answers, *_ = await asyncio.gather(
        asyncio.gather(*(send(api, "github", document) for document in documents)),
        *(pushes.trigger_due() for _ in range(5)),
    )
    assert {answer.status_code for answer in answers} == {202}
    await settled(api, pushes)
    [environment] = await previews(api)
    made = await deployments(api)
    assert {one["environmentId"] for one in made} == {environment["id"]}
    assert made[-1]["commitSha"] == commit(50)


async def test_a_deletion_that_arrives_before_an_older_push_wins(api: Api, shop: str, pushes: PushStore) -> None:
    await send(api, "github", github_push(commit(2), ZEROS, ref=BRANCH))
    await send(api, "github", github_push(commit(1), commit(2), ref=BRANCH))
    await settled(api, pushes)
    assert await previews(api) == []


async def test_at_the_maximum_a_push_waits_and_says_for_what(api: Api, shop: str, pushes: PushStore) -> None:
    await api("PATCH", "/v1/projects/shop", {"previews": {**PREVIEWS, "maximum": 1}})
    for number, branch in enumerate((BRANCH, "refs/heads/feature/y"), 1):
        await send(api, "github", github_push(ZEROS, commit(number), ref=branch))

    async def one_is_told_why() -> bool:
        await pushes.trigger_due()
        reasons = [one["reason"] or "" for one in await webhooks(api, "state=pending")]
        return len(reasons) == 1 and "maximum is 1" in reasons[0]

    await eventually(one_is_told_why)
    assert len(await previews(api)) == 1


async def test_a_trigger_asks_for_a_preview_by_name_of_the_branch(api: Api, shop: str) -> None:
    asked = {"projectId": "shop", "sourceRef": "feature/y", "preview": True}
    deployment = await api.make("/v1/deployments", asked, headers={"Idempotency-Key": "once"})
    again = await api.make("/v1/deployments", asked, headers={"Idempotency-Key": "once"})
    assert again == deployment
    [environment] = await previews(api)
    assert deployment["environmentId"] == environment["id"]
    assert deployment["configuration"]["environment"] == "preview-feature-y"
    refused = await api("POST", "/v1/deployments", {**asked, "sourceRef": "main"})
    assert (refused.status_code, refused.json()["code"]) == (422, "deployment/invalid-source-ref")
    both = await api("POST", "/v1/deployments", {**asked, "environmentId": environment["id"]})
    assert [one["pointer"] for one in both.json()["errors"]] == ["/environmentId"]


async def test_previews_are_shown_changed_and_turned_off(api: Api, shop: str) -> None:
    shown = (await api("GET", "/v1/projects/shop")).json()["previews"]
    assert shown == {**PREVIEWS, "maximum": 50, "base": None}
    assert (await api("PATCH", "/v1/projects/shop", {"name": "other"})).json()["previews"] == shown
    assert (await api("PATCH", "/v1/projects/shop", {"previews": None})).json()["previews"] is None
    wrongs: list[dict[str, Any]] = [
        {"refs": []},
        {"refs": ["a b"]},
        {**PREVIEWS, "ttlSeconds": 1},
        {**PREVIEWS, "more": 1},
    ]
    for wrong in wrongs:
        assert (await api("PATCH", "/v1/projects/shop", {"previews": wrong})).status_code == 422


async def test_a_push_whose_secrets_open_with_no_key_waits_and_says_so(
    api: Api, shop: str, pushes: PushStore, database: Database
) -> None:
    lost = Sealer("lost:" + "B" * 43 + "=").seal(b"{}", "environment")
    await database.fetch_all("update environments set secrets = %(lost)s returning id", {"lost": lost})
    assert await state_of(api, "github", github_push(ZEROS, commit(1)), to="github/shop") == "pending"
    [push] = await database.fetch_all("update pushes set next_at = now() returning id")

    async def says_so() -> bool:
        await pushes.trigger_due()
        row = await database.fetch_one("select reason from pushes where id = %(id)s", push)
        return "HEADWAY_SECRET_KEYS" in str(row and row["reason"])

    await eventually(says_so)
