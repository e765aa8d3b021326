"""Who reaches what, drawn from the app's own list of routes: a new route is covered when it is added."""

import re
from typing import Any

import pytest

from api.app import ROUTES
from tests.api.conftest import PROJECT, Api, Start
from tests.issuer import Issuer

OPEN = {"/healthz", "/readyz", "/metrics"}
SIGNED = {"/v1/webhooks/{provider}", "/v1/webhooks/{provider}/{project_id}"}
"""A signature is asked for there instead of a token: see test_webhooks.py."""
KEYED = {"/v1/temporal/codec/{key}/decode"}
"""The key of Temporal's UI is: see test_codec.py."""

GUARDED = [
    (method, route.path)
    for route in ROUTES
    for method in route.methods or ()
    if route.path not in OPEN | SIGNED | KEYED
]
WITH_OBJECT = [(method, path) for method, path in GUARDED if "{" in path and "token_id" not in path]
SCOPE_OF_WRITES = {
    ("POST", "/v1/deployments"): "deploy",
    ("POST", "/v1/deployments/{deployment_id}/cancel"): "deploy",
    ("POST", "/v1/deployments/{deployment_id}/retry"): "deploy",
    ("POST", "/v1/deployments/{deployment_id}/rollback"): "deploy",
    ("POST", "/v1/deployments/{deployment_id}/approve"): "approve",
    ("POST", "/v1/deployments/{deployment_id}/reject"): "approve",
    ("GET", "/v1/audit"): "admin",
    ("GET", "/v1/audit/verify"): "admin",
    ("GET", "/v1/webhooks"): "admin",
    ("GET", "/v1/tokens"): "admin",
    ("GET", "/v1/secret-keys"): "admin",
}
BODIES: dict[str, Any] = {
    "/v1/projects": {**PROJECT, "id": "new"},
    "/v1/projects/{project_id}/environments": {"name": "new"},
    "/v1/deployments": {"projectId": "site", "sourceRef": "main"},
    "/v1/tokens": {"subject": "new", "scopes": ["read"], "projects": ["site"]},
}
SCOPES = ("read", "deploy", "approve", "admin")
RULES = [
    *({"claims": {"groups": scope}, "scopes": [scope], "projects": ["*"]} for scope in SCOPES),
    {"claims": {"groups": "elsewhere"}, "scopes": list(SCOPES), "projects": ["elsewhere"]},
]
"""What tokens of an issuer may here."""

MISSING = {
    "project_id": "missing",
    "environment_id": "00000000-0000-7000-8000-000000000000",
    "deployment_id": "00000000-0000-7000-8000-000000000000",
}


@pytest.fixture
async def api(start: Start, issuer: Issuer) -> Api:
    return await start(oidc_issuers=[issuer.trusted(*RULES)], allow_private_addresses=True)


def needed(method: str, path: str) -> str:
    return SCOPE_OF_WRITES.get((method, path), "read" if method == "GET" else "admin")


async def filled(api: Api, path: str) -> dict[str, str]:
    """The objects of a project that the path may name."""
    environment = (await api("GET", "/v1/projects/site/environments")).json()["items"][0]["id"]
    deployments = (await api("GET", "/v1/projects/site/deployments")).json()["items"]
    if not deployments:
        deployments = [await api.make("/v1/deployments", {"projectId": "site", "sourceRef": "main"})]
    return {"project_id": "site", "environment_id": environment, "deployment_id": deployments[0]["id"]}


@pytest.mark.parametrize(("method", "path"), WITH_OBJECT)
async def test_a_foreign_object_answers_like_a_missing_one(
    api: Api, site: dict[str, Any], issuer: Issuer, method: str, path: str
) -> None:
    there = await filled(api, path)
    body = BODIES.get(path, {})
    for stranger in (await api.token(*SCOPES, projects=["elsewhere"]), issuer.token(groups=["elsewhere"])):
        foreign = await api(method, path.format(**there), body, token=stranger)
        missing = await api(method, path.format(**MISSING), body, token=stranger)
        assert foreign.status_code == missing.status_code == 404
        assert told(foreign.json(), there) == told(missing.json(), MISSING)
        assert dict(foreign.headers).keys() == dict(missing.headers).keys()


async def test_triggering_in_a_foreign_project_answers_like_in_a_missing_one(api: Api, site: dict[str, Any]) -> None:
    stranger = await api.token("deploy", projects=["elsewhere"])
    answers = [
        await api("POST", "/v1/deployments", {"projectId": project, "sourceRef": "main"}, token=stranger)
        for project in ("site", "missing")
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert told(answers[0].json(), {"project_id": "site"}) == told(answers[1].json(), MISSING)
    assert not any("RateLimit" in answer.headers for answer in answers)


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_every_route_wants_a_token_with_its_scope(
    api: Api, site: dict[str, Any], issuer: Issuer, method: str, path: str
) -> None:
    where = re.sub(r"\{\w+\}", "x", path)
    without = await api.client.request(method, where)
    assert without.status_code == 401
    assert without.headers["WWW-Authenticate"].startswith("Bearer")
    scope, others = needed(method, path), sorted(set(SCOPES) - {needed(method, path)})
    for lacking in (await api.token(*others), issuer.token(groups=others), issuer.token(groups=[])):
        refused = await api(method, where, BODIES.get(path, {}), token=lacking)
        assert (refused.status_code, refused.json()["code"]) == (403, "deployment/insufficient-permissions")
    for granted in (await api.token(scope), issuer.token(groups=[scope])):
        assert (await api(method, where, BODIES.get(path, {}), token=granted)).status_code not in {401, 403}


async def test_a_list_shows_what_the_token_reaches(api: Api, site: dict[str, Any]) -> None:
    await api.make("/v1/projects", {**PROJECT, "id": "other"})
    bound = await api.token("read", projects=["other"])
    page = (await api("GET", "/v1/projects", token=bound)).json()
    assert ([project["id"] for project in page["items"]], page["total"]) == (["other"], 1)


async def test_an_admin_of_some_projects_makes_no_others_and_no_tokens(api: Api) -> None:
    bound = await api.token("read", "admin", projects=["site"])
    assert (await api("POST", "/v1/projects", PROJECT, token=bound)).status_code == 201
    assert (await api("POST", "/v1/projects", {**PROJECT, "id": "other"}, token=bound)).status_code == 403
    assert (await api("GET", "/v1/tokens", token=bound)).status_code == 403


async def test_fields_of_ours_cannot_be_assigned(api: Api, site: dict[str, Any]) -> None:
    for field in ("status", "triggeredBy", "id", "version", "createdAt", "metadata", "commitSha"):
        body = {"projectId": "site", "sourceRef": "main", field: "x"}
        answer = await api("POST", "/v1/deployments", body)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{field}"]


async def test_a_revoked_token_is_refused_at_once_and_never_shown_again(api: Api) -> None:
    made = await api.make("/v1/tokens", {"subject": "ci", "scopes": ["read"], "projects": ["*"]})
    assert (await api("GET", "/v1/projects", token=made["token"])).status_code == 200
    assert made["token"] not in (await api("GET", "/v1/tokens")).text
    assert (await api("DELETE", f"/v1/tokens/{made['id']}")).status_code == 204
    assert (await api("GET", "/v1/projects", token=made["token"])).status_code == 401
    assert (await api("DELETE", f"/v1/tokens/{made['id']}")).status_code == 404


async def test_an_expired_token_is_refused(api: Api) -> None:
    body = {"subject": "ci", "scopes": ["read"], "projects": ["*"], "expiresAt": "2020-01-01T00:00:00Z"}
    expired = (await api.make("/v1/tokens", body))["token"]
    assert (await api("GET", "/v1/projects", token=expired)).status_code == 401


async def test_a_token_cannot_revoke_itself(api: Api) -> None:
    own = (await api("GET", "/v1/tokens")).json()["items"][0]["id"]
    assert (await api("DELETE", f"/v1/tokens/{own}")).status_code == 409


def told(problem: dict[str, Any], named: dict[str, str]) -> dict[str, Any]:
    """The problem without what has to differ: its trace, its address and the id that was asked for."""
    said: str = problem["detail"]
    for identity in named.values():
        said = said.replace(identity, "ID")
    return {**problem, "detail": said, "instance": "", "traceId": ""}
