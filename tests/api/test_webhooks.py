"""Webhooks on the real API: what is taken, once; what is refused; what finds its deployment; what pushes trigger."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from api.routes import webhooks as route
from domain.build import Build
from domain.ending import Ending
from domain.ids import uuid7
from domain.states import Status
from providers.webhooks import hosts
from store.database import Database
from store.deployments import DeploymentStore
from store.listener import Listener
from store.outbox import Outbox
from store.progress import ProgressStore
from store.pushes import PushStore
from store.seal import Sealer
from store.webhook_intake import Origin
from tests.api.conftest import Api, Start, served
from tests.providers.signing import PAYLOADS, SECRETS, ZEROS, commit, encoded, github_push, gitlab_push, signed, vercel
from tests.servers import eventually

OPERATORS = {
    f"{sender}_webhook_secret": SecretStr(f"{secret},{sender}-next")
    for sender, secret in SECRETS.items()
    if sender != "custom"
}
SHOP: dict[str, Any] = {"id": "shop", "provider": "internal", "repositoryUrl": "git@GitHub.com:Acme/shop.git"}
RULES = [{"branches": ["main", "release/*"], "environment": "production"}]


@pytest.fixture
async def api(start: Start) -> Api:
    return await start(trigger_limit=100, **OPERATORS)


@pytest.fixture
def progress(database: Database, sealer: Sealer) -> ProgressStore:
    return ProgressStore(database, sealer)


@pytest.fixture
def pushes(database: Database, api: Api) -> PushStore:
    return PushStore(database, api.services.deployments)


async def send(
    api: Api, sender: str, document: Any, *, to: str = "", secret: str | None = None, message: str = "m1"
) -> Any:
    body = document if isinstance(document, bytes) else encoded(document)
    headers = signed(sender, body, secret or SECRETS[sender], message=message)
    return await api.client.post(f"/v1/webhooks/{to or sender}", content=body, headers=headers)


async def state_of(api: Api, sender: str, document: Any, **options: Any) -> str:
    answer = await send(api, sender, document, **options)
    assert answer.status_code == 202, answer.text
    state: str = answer.json()["state"]
    return state


async def webhooks(api: Api, query: str = "limit=100") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await api("GET", f"/v1/webhooks?{query}")).json()["items"]
    return items


async def running(api: Api, progress: ProgressStore, project: str, build_id: str | None = None) -> str:
    """A deployment of a hosted project; with the id of its build, once that is known."""
    body = {"projectId": project, "sourceRef": "main", "force": True}
    identity: str = (await api.make("/v1/deployments", body))["id"]
    if build_id is not None:
        await has_build(progress, identity, build_id)
    return identity


async def has_build(progress: ProgressStore, deployment_id: str, build_id: str) -> None:
    build = Build(deployment_id=deployment_id, project_id="site", environment="production", build_id=build_id)
    await progress.note_build(build)


@pytest.fixture
async def site(api: Api, database: Database) -> str:
    """A project at Vercel, whether or not the service knows how to build there."""
    await api.make("/v1/projects", {"id": "site", "provider": "internal"})
    await database.fetch_all("update projects set provider = 'vercel' where id = 'site' returning id")
    return "site"


async def test_each_sender_is_let_in_by_its_signature_and_by_either_of_two_secrets(api: Api) -> None:
    for sender in ("github", "netlify", "vercel", "github-pages"):
        body = encoded({"id": "x", "sender": sender})
        name = "github" if sender == "github-pages" else sender
        for secret in (SECRETS[name], f"{name}-next"):
            answer = await api.client.post(f"/v1/webhooks/{sender}", content=body, headers=signed(name, body, secret))
            assert answer.status_code == 202, answer.text
    assert await state_of(api, "gitlab", {"object_kind": "note"}) == "ignored"
    assert await state_of(api, "gitlab", {"object_kind": "note"}, secret="gitlab-next", message="m2") == "ignored"


async def test_forged_altered_replayed_and_malformed_deliveries_are_refused(api: Api) -> None:
    chance = random.Random(8)
    answers = [await forged(api, chance) for _ in range(300)]
    assert {answer.status_code for answer in answers} <= {400, 401, 403, 404, 413, 415, 422}
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
    assert await webhooks(api) == []


async def forged(api: Api, chance: random.Random) -> Any:
    """One that nobody who holds the secret has sent like this."""
    sender = chance.choice(["github", "gitlab", "netlify", "vercel"])
    body = encoded({"id": str(chance.random()), "object_kind": "push"})
    headers = signed(sender, body, SECRETS[sender])
    signature = next(name for name in headers if name.endswith(("signature", "signature-256")))
    way = chance.randrange(8)
    if way == 0:
        body = body.replace(b"0", b"1", 1) + b" "
    elif way == 1:
        place = chance.randrange(len(headers[signature]))
        flipped = "A" if headers[signature][place] != "A" else "B"
        headers[signature] = headers[signature][:place] + flipped + headers[signature][place + 1 :]
    elif way == 2:
        del headers[signature]
    elif way == 3:
        headers |= signed(sender, body, "whsec_" + "QUJD" * 12)
    elif way == 4:
        headers = signed("gitlab", body, SECRETS["gitlab"], now=chance.choice([1, 1614265330, 4_000_000_000]))
        sender = "gitlab"
    elif way == 5:
        body = chance.choice([b"", b"[]", b"null", b'"x"', b"{", b'{"a":\xff}', b"[" * 2000, b'{"a":"\\ud800"}'])
        headers = signed(sender, body, SECRETS[sender])
    elif way == 6:
        headers["content-type"] = chance.choice(["text/plain", "application/x-www-form-urlencoded", ""])
    else:
        sender = chance.choice(["custom", "bitbucket", "custom/site", "vercel%00", "github/no-such-project"])
    return await api.client.post(f"/v1/webhooks/{sender}", content=body, headers=headers)


async def test_without_a_secret_nothing_is_taken(start: Start) -> None:
    api = await start(vercel_webhook_secret=SecretStr(" , "))
    for sender in ("github", "gitlab", "netlify", "vercel", "custom"):
        answer = await send(api, sender, {"id": "x"}, secret=SECRETS[sender])
        assert (answer.status_code, answer.json()["code"]) == (403, "deployment/insufficient-permissions")
        assert f"{sender.upper()}_WEBHOOK_SECRET" in answer.json()["detail"]


async def test_a_named_projects_own_secret_wins_and_reaches_that_project_alone(
    api: Api, site: str, progress: ProgressStore
) -> None:
    await api.make("/v1/projects", {"id": "other", "provider": "internal"})
    mine = "a secret of site's own"
    await api("PATCH", "/v1/projects/site", {"configuration": {"secrets": {"VERCEL_WEBHOOK_SECRET": f"{mine},old"}}})
    await running(api, progress, "site", "dpl_1")
    assert await state_of(api, "vercel", vercel("dpl_1", "e1"), to="vercel/site", secret="old") == "pending"
    assert await state_of(api, "vercel", vercel("dpl_1", "e1"), to="vercel/other") == "parked"
    with_operators = await send(api, "vercel", vercel("dpl_1", "e2"), to="vercel/site")
    elsewhere = await send(api, "vercel", vercel("dpl_1", "e2"), to="vercel/other", secret=mine)
    nowhere = await send(api, "vercel", vercel("dpl_1", "e2"), to="vercel/none", secret=mine)
    assert {with_operators.status_code, elsewhere.status_code, nowhere.status_code} == {401}
    assert elsewhere.json()["detail"] == nowhere.json()["detail"], "nothing tells which projects there are"
    assert (await send(api, "vercel", vercel("dpl_1", "e2"), to="vercel/none")).status_code == 404


async def test_a_custom_sender_names_its_project_and_wakes_what_runs_there(
    api: Api, site: str, progress: ProgressStore
) -> None:
    secrets = {"CUSTOM_WEBHOOK_SECRET": SECRETS["custom"]}
    await api("PATCH", "/v1/projects/site", {"configuration": {"secrets": secrets}})
    assert await state_of(api, "custom", {"type": "build.done"}, to="custom/site") == "ignored"
    identity = await running(api, progress, "site")
    assert await state_of(api, "custom", {"type": "build.done"}, to="custom/site", message="m2") == "pending"
    assert [item["deploymentId"] for item in await webhooks(api)] == [identity, None]


async def test_a_custom_sender_signs_as_its_project_says(api: Api, site: str, database: Database) -> None:
    described = {"webhooks": {"scheme": "hmac-sha256", "header": "X-Shop-Signature", "prefix": "sha256="}}
    await api("PATCH", "/v1/projects/site", {"configuration": {"secrets": {"CUSTOM_WEBHOOK_SECRET": "shared"}}})
    statement = "update projects set provider_settings = %(settings)s where id = 'site' returning id"
    await database.fetch_all(statement, {"settings": Jsonb(described)})
    body = encoded({"type": "build.done"})
    signature = signed("github", body, "shared")["x-hub-signature-256"]
    headers = {"content-type": "application/json", "x-shop-signature": signature, "webhook-id": "1"}
    first = await api.client.post("/v1/webhooks/custom/site", content=body, headers=headers)
    again = await api.client.post("/v1/webhooks/custom/site", content=body, headers={**headers, "webhook-id": "2"})
    assert (first.status_code, again.json()["duplicate"]) == (202, True)
    forged = await api.client.post("/v1/webhooks/custom/site", content=body + b" ", headers=headers)
    assert forged.status_code == 401
    assert (await send(api, "custom", {"type": "x"}, to="custom/site")).status_code == 401


async def test_a_thousand_times_the_same_in_any_order_counts_once_each(
    api: Api, site: str, progress: ProgressStore
) -> None:
    await running(api, progress, "site", "dpl_1")
    sent = [number for number in range(40) for _ in range(5)]
    random.Random(1).shuffle(sent)
    answers = await asyncio.gather(*(send(api, "vercel", vercel("dpl_1", f"evt_{number}")) for number in sent))
    assert {answer.status_code for answer in answers} == {202}
    assert sum(not answer.json()["duplicate"] for answer in answers) == 40
    assert len({answer.json()["id"] for answer in answers}) == 40
    outbox = Outbox(api.services.database)

    async def told() -> bool:
        await api.services.database.fetch_all("delete from webhook_signals returning 1")
        await outbox.mark_told_news(await outbox.claim_news())
        return [item["state"] for item in await webhooks(api)] == ["applied"] * 40

    await eventually(told)


async def test_one_that_is_early_waits_for_the_id_of_its_build(
    api: Api, site: str, progress: ProgressStore, database_url: str
) -> None:
    identity = await running(api, progress, "site")
    assert await state_of(api, "vercel", vercel("dpl_9", "e1")) == "parked"
    assert await state_of(api, "vercel", vercel("dpl_8", "e2")) == "parked"
    async with Listener(database_url) as listener, listener.watch(f"webhook:{identity}") as wake:
        await wake.wait(30)  # the listener looks once when it begins
        await has_build(progress, identity, "dpl_9")
        await wake.wait(30)
    assert {item["deliveryId"]: item["deploymentId"] for item in await webhooks(api)} == {"e1": identity, "e2": None}
    assert [item["deliveryId"] for item in await webhooks(api, "state=parked&provider=vercel")] == ["e2"]


async def test_one_with_our_id_needs_no_id_of_the_build(api: Api, site: str, progress: ProgressStore) -> None:
    identity = await running(api, progress, "site")
    assert await state_of(api, "vercel", vercel("dpl_9", "e1", deployKey=identity)) == "pending"
    assert [item["deploymentId"] for item in await webhooks(api)] == [identity]


async def test_early_ones_and_the_id_of_their_build_never_miss_each_other(
    api: Api, site: str, progress: ProgressStore
) -> None:
    ids = [await running(api, progress, "site") for _ in range(12)]
    both = [has_build(progress, identity, f"dpl_{number}") for number, identity in enumerate(ids)]
    events = [send(api, "vercel", vercel(f"dpl_{number}", f"e{number}")) for number in range(len(ids))]
    await asyncio.gather(*both, *events)
    assert {item["deploymentId"] for item in await webhooks(api)} == set(ids)


async def test_a_late_one_moves_nothing(api: Api, site: str, progress: ProgressStore) -> None:
    identity = await running(api, progress, "site", "dpl_1")
    ended = await progress.finish(identity, Ending(status=Status.SUCCEEDED))
    assert await state_of(api, "vercel", vercel("dpl_1", "e1", kind="deployment.error")) == "applied"
    assert (await api("GET", f"/v1/deployments/{identity}")).json()["version"] == ended.version
    assert await Outbox(api.services.database).claim_news() == []


async def test_a_workflow_is_told_now_and_then_and_of_all_that_came(
    api: Api, site: str, progress: ProgressStore, database: Database
) -> None:
    outbox = Outbox(database)
    identity = await running(api, progress, "site", "dpl_1")

    async def come(*kinds: str) -> None:
        """Stored, without the API's own telling of it."""
        for kind in kinds:
            document = vercel("dpl_1", str(uuid7()), kind=f"deployment.{kind}")
            await api.services.webhooks.receive(Origin("vercel", "vercel", None), hosts.vercel({}, b"", document))

    async def pass_by(seconds: int) -> None:
        earlier = f"update webhook_signals set signalled_at = signalled_at - interval '{seconds} seconds' returning 1"
        await database.fetch_all(earlier)

    await come("created", "created", "error", "ready")
    taken = [news for claimed in await asyncio.gather(*(outbox.claim_news() for _ in range(5))) for news in claimed]
    assert [(news.deployment_id, len(news.webhook_ids), news.kind) for news in taken] == [
        (identity, 4, "deployment.ready")
    ]
    assert await outbox.claim_news() == [], "it was not delivered, and may be tried again a little later"
    await pass_by(6)
    assert await outbox.claim_news() == taken
    await outbox.mark_told_news(taken)
    await pass_by(6)
    assert await outbox.claim_news() == []
    await come("succeeded")
    await database.fetch_all("update webhook_signals set signals = 2000 returning 1")
    await pass_by(60)
    assert await outbox.claim_news() == [], "the more often it was told, the longer the pause"
    await pass_by(60)
    assert len(await outbox.claim_news()) == 1


async def test_a_body_is_capped_before_it_is_read(api: Api) -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 65536

    headers = signed("vercel", b"", SECRETS["vercel"])
    for content in (unannounced(), b" " * (1024 * 1024 + 1)):
        answer = await api.client.post("/v1/webhooks/vercel", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "deployment/invalid-request")


async def test_a_body_has_to_come_in_time(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "BODY_SECONDS", 0.1)
    async with served(database_url, **OPERATORS) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.client.base_url.port)
        head = ["POST /v1/webhooks/vercel HTTP/1.1", "Host: api", "Content-Type: application/json", "Content-Length: 9"]
        writer.write("\r\n".join([*head, "", '{"id"']).encode())
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 30)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the body did not come within" in answer


async def test_the_list_is_for_admins_of_all_projects(api: Api, site: str) -> None:
    for number in range(3):
        await send(api, "vercel", vercel("dpl_1", f"e{number}"))
    page = (await api("GET", "/v1/webhooks?limit=2")).json()
    assert (page["total"], len(page["items"])) == (3, 2)
    rest = (await api("GET", f"/v1/webhooks?limit=2&cursor={page['nextCursor']}")).json()
    assert [item["deliveryId"] for item in [*page["items"], *rest["items"]]] == ["e2", "e1", "e0"]
    assert (await api.client.get("/v1/webhooks")).status_code == 401
    for token in (await api.token("admin", projects=["site"]), await api.token("read", "deploy")):
        assert (await api("GET", "/v1/webhooks", token=token)).status_code == 403


async def test_old_ones_are_forgotten_and_pushes_much_later(api: Api, database: Database) -> None:
    await send(api, "vercel", vercel("dpl_1", "e1"))
    await send(api, "github", github_push(ZEROS, commit(1)))
    await database.fetch_all("update webhooks set received_at = now() - interval '8 days' returning 1")
    await api.services.webhooks.forget()
    assert [item["kind"] for item in await webhooks(api)] == ["push"]
    await database.fetch_all("update webhooks set received_at = now() - interval '401 days' returning 1")
    await api.services.webhooks.forget()
    assert await webhooks(api) == []


# --- pushes ---


@pytest.fixture
async def shop(api: Api) -> str:
    await api.make("/v1/projects", {**SHOP, "pushRules": RULES, "concurrency": "parallel"})
    return "shop"


async def deployments(api: Api, project: str = "shop") -> list[dict[str, Any]]:
    """Oldest first."""
    page = (await api("GET", f"/v1/projects/{project}/deployments?sortOrder=asc&limit=100")).json()
    items: list[dict[str, Any]] = page["items"]
    return items


async def deployed(api: Api, project: str = "shop") -> list[str]:
    return [deployment["commitSha"] for deployment in await deployments(api, project)]


async def test_a_push_to_a_branch_with_a_rule_is_deployed_once(api: Api, shop: str) -> None:
    answers = [await send(api, "github", github_push(ZEROS, commit(1)), message=str(number)) for number in range(3)]
    assert [answer.json()["duplicate"] for answer in answers] == [False, True, True]

    async def triggered() -> bool:
        return len(await deployments(api)) == 1

    await eventually(triggered)
    [deployment] = await deployments(api)
    assert (deployment["sourceRef"], deployment["commitSha"]) == ("main", commit(1))
    assert (deployment["triggeredBy"], deployment["metadata"]["trigger"]) == ("github:Codertocat", "webhook")
    assert deployment["configuration"]["environment"] == "production"
    [item] = await webhooks(api)
    assert (item["state"], item["push"]["commit"], item["push"]["repository"]) == (
        "applied",
        commit(1),
        "github.com/acme/shop",
    )
    assert item["triggers"] == [
        {
            "projectId": "shop",
            "environment": "production",
            "state": "applied",
            "reason": None,
            "deploymentId": deployment["id"],
        }
    ]


async def test_what_no_rule_is_about_is_ignored_with_its_reason(api: Api, shop: str) -> None:
    said = [
        (github_push(ZEROS, commit(1), ref="refs/heads/feature/x"), "no rule"),
        (github_push(ZEROS, commit(1), ref="refs/tags/v1"), "no branch"),
        (github_push(ZEROS, commit(1), repository="acme/other"), "no rule"),
        (github_push(commit(1), ZEROS), "deleted"),
        (json.loads((PAYLOADS / "github/ping.json").read_text()), "names no build"),
    ]
    for document, reason in said:
        answer = (await send(api, "github", document)).json()
        assert answer["state"] == "ignored"
        assert reason in answer["reason"]
    assert await deployments(api) == []


async def test_rules_of_several_projects_and_environments_are_followed(api: Api, pushes: PushStore) -> None:
    both = [*RULES, {"branches": ["*"], "environment": "preview"}]
    for project, rules in (("one", RULES), ("two", both)):
        await api.make("/v1/projects", {**SHOP, "id": project, "pushRules": rules, "concurrency": "parallel"})
    await api.make("/v1/projects/two/environments", {"name": "preview"})
    await send(api, "github", github_push(ZEROS, commit(1), ref="refs/heads/release/1/2"))
    await send(api, "github", github_push(ZEROS, commit(2), ref="refs/heads/feature/x"))
    await pushes.trigger_due()

    async def settled() -> bool:
        return {item["state"] for item in await webhooks(api)} == {"applied"}

    await eventually(settled)
    assert await deployed(api, "one") == [commit(1)]
    triggered = await deployments(api, "two")
    assert (
        sorted((one["configuration"]["environment"], one["commitSha"]) for one in triggered)
        == sorted([("production", commit(1)), ("preview", commit(1)), ("preview", commit(2))])
        or [one["commitSha"] for one in triggered].count(commit(2)) == 0
    )


async def test_a_named_project_follows_its_rules_whatever_its_repository(api: Api, shop: str) -> None:
    await api.make("/v1/projects", {"id": "mirror", "provider": "internal", "pushRules": RULES})
    assert await state_of(api, "gitlab", gitlab_push(ZEROS, commit(1)), to="gitlab/mirror") == "pending"

    async def triggered() -> bool:
        return await deployed(api, "mirror") == [commit(1)]

    await eventually(triggered)
    assert (await deployments(api, "mirror"))[0]["triggeredBy"] == "gitlab:jsmith"
    assert await deployments(api) == []


async def test_while_the_lane_is_busy_the_newest_push_waits_and_replaces_older_ones(
    api: Api, progress: ProgressStore, pushes: PushStore, database: Database
) -> None:
    await api.make("/v1/projects", {**SHOP, "pushRules": RULES})
    busy = (await api.make("/v1/deployments", {"projectId": "shop", "sourceRef": "main"}))["id"]
    for number in range(1, 5):
        await send(api, "github", github_push(commit(number - 1), commit(number)))

    async def waiting() -> bool:
        return "is running in this environment" in ((await webhooks(api))[0]["reason"] or "")

    async def now() -> None:
        await database.fetch_all("update pushes set next_at = now() where state = 'pending' returning 1")
        await pushes.trigger_due()

    await now()
    await eventually(waiting)
    assert [item["state"] for item in await webhooks(api)] == ["pending", "replaced", "replaced", "replaced"]
    await progress.finish(busy, Ending(status=Status.SUCCEEDED))
    await now()
    assert await deployed(api) == [None, commit(4)]
    assert (await webhooks(api))[0]["state"] == "applied"


async def test_the_trigger_limit_puts_a_push_off(start: Start, database: Database, sealer: Sealer) -> None:
    api = await start(trigger_limit=1, **OPERATORS)
    await api.make("/v1/projects", {**SHOP, "pushRules": RULES, "concurrency": "parallel"})
    await api.make("/v1/deployments", {"projectId": "shop", "sourceRef": "main"})
    await send(api, "github", github_push(ZEROS, commit(1)))
    pushes = PushStore(database, DeploymentStore(database, sealer, api.services.limiter))
    await pushes.trigger_due()

    async def put_off() -> bool:
        return "the next is accepted in" in ((await webhooks(api))[0]["reason"] or "")

    await eventually(put_off)
    await database.fetch_all("update rate_limits set hits = '{}' returning 1")
    await database.fetch_all("update pushes set next_at = now() returning 1")
    await pushes.trigger_due()
    assert await deployed(api) == [None, commit(1)]


async def test_a_rule_about_an_environment_that_is_not_there_says_so(api: Api, pushes: PushStore) -> None:
    await api.make("/v1/projects", {**SHOP, "pushRules": [{"branches": ["main"], "environment": "nowhere"}]})
    await send(api, "github", github_push(ZEROS, commit(1)))
    await pushes.trigger_due()

    async def given_up() -> bool:
        [item] = await webhooks(api)
        return bool(item["state"] == "ignored" and item["reason"] == "there is no environment nowhere")

    await eventually(given_up)


@pytest.mark.parametrize("sender", ["github", "gitlab"])
@pytest.mark.parametrize("seed", range(4))
async def test_pushes_in_any_order_leave_the_newest_and_never_an_older_one_after_it(
    api: Api, pushes: PushStore, database: Database, sender: str, seed: int
) -> None:
    await api.make("/v1/projects", {**SHOP, "pushRules": RULES, "concurrency": "parallel"})
    make = github_push if sender == "github" else gitlab_push
    order = list(range(1, 7))
    random.Random(seed).shuffle(order)
    to = "github" if sender == "github" else "gitlab/shop"
    for number in order:
        await send(api, sender, make(commit(number - 1), commit(number)), to=to, message=f"m{number}")
        await pushes.trigger_due()
    await database.fetch_all("update pushes set next_at = now() where state = 'pending' returning 1")
    await pushes.trigger_due()

    async def settled() -> bool:
        return "pending" not in {item["state"] for item in await webhooks(api)}

    await eventually(settled)
    found = [number for sha in await deployed(api) for number in order if commit(number) == sha]
    assert found == sorted(found), order
    assert found[-1] == 6


async def test_a_branch_may_go_back_and_forth(api: Api, shop: str, pushes: PushStore) -> None:
    one, two = commit(1), commit(2)
    for number, (before, after) in enumerate([(ZEROS, one), (one, two), (two, one), (one, two)]):
        document = gitlab_push(before, after)
        assert await state_of(api, "gitlab", document, to="gitlab/shop", message=f"m{number}") == "pending"
        await pushes.trigger_due()

        async def triggered(count: int = number + 1) -> bool:
            return len(await deployed(api)) == count

        await eventually(triggered)
    assert await deployed(api) == [one, two, one, two]


async def test_the_same_push_by_two_webhooks_is_one(api: Api, shop: str) -> None:
    await send(api, "github", github_push(ZEROS, commit(1)))
    assert await state_of(api, "github", github_push(ZEROS, commit(1)), to="github/shop") == "replaced"


async def test_a_push_of_a_deleted_branch_no_longer_waits(api: Api, progress: ProgressStore, pushes: PushStore) -> None:
    await api.make("/v1/projects", {**SHOP, "pushRules": RULES})
    await api.make("/v1/deployments", {"projectId": "shop", "sourceRef": "main"})
    await send(api, "github", github_push(ZEROS, commit(1)))
    await send(api, "github", github_push(commit(1), ZEROS))
    assert [item["state"] for item in await webhooks(api)] == ["ignored", "replaced"]


async def test_push_rules_are_shown_changed_and_taken_away(api: Api, shop: str) -> None:
    assert (await api("GET", "/v1/projects/shop")).json()["pushRules"] == RULES
    changed = [{"branches": ["next"], "environment": "production"}]
    assert (await api("PATCH", "/v1/projects/shop", {"pushRules": changed})).json()["pushRules"] == changed
    assert (await api("PATCH", "/v1/projects/shop", {"name": "Shop"})).json()["pushRules"] == changed
    assert (await api("PATCH", "/v1/projects/shop", {"pushRules": []})).json()["pushRules"] == []
    refused: list[Any] = [[{"branches": [], "environment": "x"}], [{"branches": ["a b"], "environment": "x"}], [{}]]
    for wrong in [*refused, "main"]:
        assert (await api("PATCH", "/v1/projects/shop", {"pushRules": wrong})).status_code == 422
