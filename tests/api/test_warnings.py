"""Who sets a secret that no mask will hide is told so, once, by its name alone."""

from typing import Any

import pytest

from domain.ending import Ending
from domain.states import Status
from store.database import Database
from store.progress import ProgressStore
from store.seal import Sealer
from tests.api.conftest import PROJECT, Api

PIN = "secret PIN will not be masked in logs: it is shorter than 6 characters"
STAGE = "secret STAGE_TOKEN will not be masked in logs: it is too ordinary"
SECRETS = {
    "environmentVariables": {"STAGE_TOKEN": "production", "PLAIN": "x"},
    "secrets": {"PIN": "4711", "GOOD": "s3cr3t-value"},
}


async def test_setting_a_secret_on_a_project_or_an_environment_says_what_will_not_be_masked(api: Api) -> None:
    made = await api.make("/v1/projects", {**PROJECT, "configuration": SECRETS})
    assert made["warnings"] == [PIN, STAGE]
    environment = await api.make("/v1/projects/site/environments", {"name": "test", "configuration": SECRETS})
    assert environment["warnings"] == [PIN, STAGE]
    for path in ("/v1/projects/site", f"/v1/environments/{environment['id']}"):
        changed = (await api("PATCH", path, {"configuration": {"secrets": {"PIN": "0815", "GOOD": None}}})).json()
        assert changed["warnings"] == [PIN]
        assert (await api("PATCH", path, {"configuration": {"buildCommand": "make"}})).json()["warnings"] is None
        assert (await api("PATCH", path, {"concurrency": "parallel"})).json()["warnings"] is None
        assert (await api("GET", path)).json()["warnings"] is None


async def test_a_deployment_is_answered_with_what_of_its_secrets_will_not_be_masked(
    api: Api, site: dict[str, Any], database: Database, sealer: Sealer
) -> None:
    await api("PATCH", "/v1/projects/site", {"configuration": {"secrets": {"PIN": "4711"}}, "concurrency": "parallel"})
    wanted = {"projectId": "site", "sourceRef": "main"}
    assert (await api.make("/v1/deployments", wanted))["warnings"] == [PIN]
    own = {"configuration": {"secrets": {"PIN": "s3cr3t-value", "STAGE_TOKEN": "production"}}}
    made = await api.make("/v1/deployments", {**wanted, **own})
    assert made["warnings"] == [STAGE]
    assert (await api("GET", made["links"]["self"])).json()["warnings"] is None
    await ProgressStore(database, sealer).finish(made["id"], Ending(status=Status.FAILED))
    assert (await api.make(f"/v1/deployments/{made['id']}/retry", {}))["warnings"] == [STAGE]


async def test_a_repeated_request_is_warned_again_and_nobody_else_is(api: Api, site: dict[str, Any]) -> None:
    wanted = {"projectId": "site", "sourceRef": "main", "configuration": {"secrets": {"PIN": "4711"}}}
    first = await api("POST", "/v1/deployments", wanted, {"Idempotency-Key": "one"})
    again = await api("POST", "/v1/deployments", wanted, {"Idempotency-Key": "one"})
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.json()["warnings"] == again.json()["warnings"] == [PIN]
    stored = await api.services.database.fetch_all("select document::text as text from events", {})
    assert stored
    assert not any("PIN will" in row["text"] or "4711" in row["text"] for row in stored)


@pytest.mark.parametrize("model", ["Project", "Environment", "Deployment"])
async def test_warnings_are_described(api: Api, model: str) -> None:
    described = (await api("GET", "/openapi.json")).json()["components"]["schemas"][model]["properties"]["warnings"]
    assert "will not be masked" in described["description"]
