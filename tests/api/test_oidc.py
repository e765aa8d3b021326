"""Callers with tokens of OpenID Connect issuers: who they are, what they may, and what they are told."""

import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from api.callers import MAX_TEXT
from tests.api.conftest import PROJECT, Api, Start, served
from tests.api.reading import events, opened
from tests.issuer import Issuer
from tests.servers import free_port, running

REPOSITORY = {"repository": "acme/site", "ref": "refs/heads/main", "actor": "ada"}
RULES: list[dict[str, Any]] = [
    {
        "claims": {"repository": "acme/site", "ref": "refs/heads/*"},
        "subject": "github:{repository}:{actor}",
        "scopes": ["read", "deploy"],
        "projects": ["site"],
    },
    {"claims": {"groups": "approvers"}, "subject": "{email}", "scopes": ["read", "approve"], "projects": ["*"]},
    {"claims": {"groups": "admins of other"}, "scopes": ["admin"], "projects": ["other"]},
]
TRIGGER = {"projectId": "site", "sourceRef": "main"}


def trusting(issuer: Issuer) -> dict[str, Any]:
    return {"oidc_issuers": [issuer.trusted(*RULES)], "allow_private_addresses": True}


@pytest.fixture
async def api(start: Start, issuer: Issuer) -> Api:
    return await start(**trusting(issuer))


async def refused(api: Api, token: str, status: int, path: str = "/v1/projects") -> str:
    answer = await api("GET", path, token=token)
    assert answer.status_code == status
    detail: str = answer.json()["detail"]
    return detail


async def test_a_workflow_deploys_as_whom_its_rule_names_and_is_found_in_the_audit(
    api: Api, site: dict[str, Any], issuer: Issuer
) -> None:
    ids = []
    for jti in ("one", "one", "two"):
        token = issuer.token(**REPOSITORY, jti=jti)
        made = await api.make("/v1/deployments", {**TRIGGER, "force": True}, token=token)
        assert made["triggeredBy"] == "github:acme/site:ada"
        entry = (await api("GET", "/v1/audit?projectId=site&action=deployment.trigger&limit=1")).json()["items"][0]
        assert (entry["actor"], entry["target"]) == ("github:acme/site:ada", made["id"])
        ids.append(entry["tokenId"])
    assert re.fullmatch("oidc-[0-9a-f]{32}", ids[0])
    assert ids[0] == ids[1] != ids[2]


async def test_approvals_count_the_people_that_the_rules_name(api: Api, site: dict[str, Any], issuer: Issuer) -> None:
    environment = (await api("GET", "/v1/projects/site/environments")).json()["items"][0]
    rule = {"protection": {"requiredApprovals": 2}}
    assert (await api("PATCH", f"/v1/environments/{environment['id']}", rule)).status_code == 200
    identity = (await api.make("/v1/deployments", TRIGGER, token=issuer.token(**REPOSITORY)))["id"]
    for sub, email, counted in (("1", "bob@acme", 1), ("2", "bob@acme", 1), ("3", "eve@acme", 2)):
        token = issuer.token(sub=sub, email=email, groups=["approvers"])
        answer = await api("POST", f"/v1/deployments/{identity}/approve", {}, token=token)
        assert len({word["subject"] for word in answer.json()["approvals"]}) == counted


async def test_a_scope_does_not_leak_into_the_projects_of_another_rule(
    api: Api, site: dict[str, Any], issuer: Issuer
) -> None:
    await api.make("/v1/projects", {**PROJECT, "id": "other"})
    both = issuer.token(**REPOSITORY, groups=["approvers", "admins of other"], email="ada@acme")
    seen = (await api("GET", "/v1/projects", token=both)).json()["items"]
    assert {project["id"] for project in seen} == {"site", "other"}
    assert (await api("POST", "/v1/deployments", {**TRIGGER, "projectId": "other"}, token=both)).status_code == 404
    assert (await api("PATCH", "/v1/projects/site", {"name": "x"}, token=both)).status_code == 404
    assert (await api("PATCH", "/v1/projects/other", {"name": "x"}, token=both)).status_code == 200
    urgent = await api("POST", "/v1/deployments", {**TRIGGER, "breakGlass": "fire"}, token=both)
    assert (urgent.status_code, urgent.json()["code"]) == (403, "deployment/insufficient-permissions")
    assert "but not in the project site" in urgent.json()["detail"]
    assert (await api("POST", "/v1/deployments", TRIGGER, token=both)).status_code == 202


async def test_a_token_that_no_rule_fits_is_told_its_claims_by_name_alone(api: Api, issuer: Issuer) -> None:
    detail = await refused(api, issuer.token(repository="stranger/secret"), 403)
    assert "no rule of this service fits its claims; it has: aud, exp, iat, iss, repository, sub" in detail
    assert "secret" not in detail


async def test_a_token_that_is_not_valid_is_told_why(api: Api, issuer: Issuer) -> None:
    assert "it has expired" in await refused(api, issuer.token(exp=int(time.time()) - 90), 401)
    assert "not one of those that are trusted" in await refused(api, issuer.token(iss="https://x.example.org"), 401)
    huge = issuer.token(**REPOSITORY, more="x" * MAX_TEXT)
    assert "with a token that is valid" in await refused(api, huge, 401)


@pytest.mark.usefixtures("site")
async def test_text_that_is_none_in_a_claim_is_no_bug_of_ours(api: Api, issuer: Issuer) -> None:
    for odd in ("\ud800", "a\x00b"):
        for claim in ("jti", "sub", "actor", "repository", "more"):
            token = issuer.token(**{**REPOSITORY, claim: odd})
            answer = await api("POST", "/v1/deployments", {**TRIGGER, "force": True}, token=token)
            assert answer.status_code == (202 if claim in {"jti", "sub", "more"} else 403), claim
        subject = issuer.token(sub=odd, groups=["approvers"], email=odd)
        assert (await api("GET", "/v1/projects", token=subject)).status_code == 403
    assert (await api("GET", "/v1/audit?projectId=site")).status_code == 200


async def test_an_issuer_that_is_away_is_waited_for_and_our_own_tokens_go_on(api: Api, issuer: Issuer) -> None:
    await issuer.stop()
    answer = await api("GET", "/v1/projects", token=issuer.token(**REPOSITORY))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert answer.json()["retryable"] is True
    assert (await api("GET", "/v1/projects")).status_code == 200


async def test_a_stream_ends_with_the_token_that_opened_it(database_url: str, issuer: Issuer) -> None:
    async with served(database_url, **trusting(issuer)) as live:
        await live.make("/v1/projects", PROJECT)
        identity = (await live.make("/v1/deployments", TRIGGER))["id"]
        ending = issuer.token(**REPOSITORY, exp=int(time.time()) - 56)  # a minute is allowed to clocks
        addresses = [f"/v1/deployments/{identity}/{kind}" for kind in ("logs/stream", "events")]
        async with opened(live, addresses[0], token=ending) as log, opened(live, addresses[1], token=ending) as changes:
            for answer in (log, changes):
                assert "end" not in [event["event"] async for event in events(answer)]


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An issuer that others have written, in a process of its own."""
    port = free_port()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

        async def ready() -> bool:
            try:
                return (await client.get("/jwks")).is_success
            except httpx.TransportError:
                return False

        argv = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)]
        async with running(*argv, ready=ready, log=tmp_path / "issuer.log"):
            yield client


async def signed_in(provider: httpx.AsyncClient, sub: str, **claims: Any) -> str:
    """The identity token of somebody who goes through the authorization code flow."""
    assert (await provider.put(f"/users/{sub}", json=claims)).is_success
    asked = {"client_id": "headway", "redirect_uri": "http://client.example.org", "response_type": "code"}
    agreed = await provider.post(
        "/oauth2/authorize", params={**asked, "scope": "openid email", "state": "x"}, data={"sub": sub}
    )
    code = parse_qs(urlsplit(agreed.headers["location"]).query)["code"][0]
    answer = await provider.post(
        "/oauth2/token",
        data={"grant_type": "authorization_code", "code": code, "redirect_uri": asked["redirect_uri"]},
        auth=("headway", "any"),
    )
    token: str = answer.json()["id_token"]
    return token


async def test_somebody_who_signed_in_at_another_issuer_is_let_in(start: Start, provider: httpx.AsyncClient) -> None:
    trusted = {"issuer": str(provider.base_url).rstrip("/"), "audience": "headway", "rules": [RULES[1]]}
    api = await start(oidc_issuers=[trusted], allow_private_addresses=True)
    bob = await signed_in(provider, "bob", email="bob@acme", groups=["staff", "approvers"])
    eve = await signed_in(provider, "eve", email="eve@acme", groups=["staff"])
    assert (await api("GET", "/v1/projects", token=bob)).status_code == 200
    assert "no rule" in await refused(api, eve, 403)
    assert "lacks the scope 'admin'; it has: approve, read" in await refused(api, bob, 403, "/v1/tokens")
