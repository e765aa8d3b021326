"""Secrets over HTTP: what is refused is not repeated; versions are told, and how much each key of the service seals."""

import base64
from typing import Any

import pytest
from pydantic import SecretStr

from store.reseal import SecretKeyStore
from store.seal import Sealer
from tests.api.conftest import Api, Start
from tests.conftest import SECRET_KEYS

VALUE = "a-value-that-nobody-is-to-see"
NEW = "next:" + base64.b64encode(b"n" * 32).decode()


@pytest.mark.parametrize(
    "secrets",
    [
        {"KEY": VALUE * 3000},
        {"KEY": VALUE + "\x00"},
        {"KEY": [VALUE]},
        {"KEY": {"value": VALUE}},
        {"NOT A NAME": VALUE},
        [VALUE],
        VALUE,
    ],
)
async def test_what_is_refused_is_named_and_not_repeated(
    api: Api, site: dict[str, Any], secrets: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = {"configuration": {"secrets": secrets}}
    environment = (await api("GET", "/v1/projects/site/environments")).json()["items"][0]["id"]
    for method, path, body in (
        ("PATCH", "/v1/projects/site", wrong),
        ("PATCH", f"/v1/environments/{environment}", wrong),
        ("POST", "/v1/projects", {"id": "new", "provider": "internal", **wrong}),
        ("POST", "/v1/deployments", {"projectId": "site", "sourceRef": "main", **wrong}),
    ):
        answer = await api(method, path, body)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"].startswith("/configuration/secrets")
        assert VALUE not in answer.text + str(answer.headers)
    assert VALUE not in "".join(capfd.readouterr())


async def test_a_value_that_no_key_opens_is_a_500_that_names_the_key_to_callers_and_operators(
    api: Api, start: Start, site: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    del site
    await api("PATCH", "/v1/projects/site", {"configuration": {"secrets": {"KEY": VALUE}}})
    stranger = await start(secret_keys=SecretStr(NEW))
    answer = await stranger("POST", "/v1/deployments", {"projectId": "site", "sourceRef": "main"})
    assert (answer.status_code, answer.json()["code"]) == (500, "deployment/internal")
    missing = "the key ring lacks key 'test'; put it back into HEADWAY_SECRET_KEYS"
    assert answer.json()["detail"].endswith(missing)
    assert "lacks key" in "".join(capfd.readouterr())
    assert not any(value in answer.text for value in (VALUE, NEW.partition(":")[2], SECRET_KEYS.partition(":")[2]))


async def test_versions_are_told_by_projects_environments_deployments_and_previews(
    api: Api, site: dict[str, Any]
) -> None:
    del site
    for value in (VALUE, VALUE, "another-value"):
        await api("PATCH", "/v1/projects/site", {"configuration": {"secrets": {"KEY": value}}})
    project = (await api("GET", "/v1/projects/site")).json()
    version = project["secretVersions"]["KEY"]
    assert (version["version"], version["updatedBy"]) == (2, "operator")
    assert version["updatedAt"] > project["createdAt"]
    deployment = await api.make("/v1/deployments", {"projectId": "site", "sourceRef": "main"})
    assert deployment["secretVersions"] == {"KEY": {"scope": "project", "version": 2}}
    audit = (await api("GET", "/v1/audit")).text
    assert VALUE not in audit + str(project) + str(deployment)


async def test_an_operator_sees_how_far_a_replacement_is(api: Api, start: Start, site: dict[str, Any]) -> None:
    del site
    before = (await api("GET", "/v1/secret-keys")).json()
    told = {key["id"]: (key["seals"], key["known"]) for key in before["keys"]}
    assert (told, before["left"]) == ({"test": (True, True)}, 0)
    ring = f"{NEW},{SECRET_KEYS}"
    restarted = await start(secret_keys=SecretStr(ring))
    halfway = await restarted("GET", "/v1/secret-keys")
    assert halfway.json()["left"] == before["keys"][0]["values"] > 0
    assert not any(entry.partition(":")[2] in halfway.text for entry in ring.split(","))
    await SecretKeyStore(api.services.database, Sealer(ring)).reseal()
    after = {key["id"]: key["values"] for key in (await restarted("GET", "/v1/secret-keys")).json()["keys"]}
    assert after == {"next": before["keys"][0]["values"], "test": 0}
    bound = await api.token("admin", projects=["site"])
    assert (await api("GET", "/v1/secret-keys", token=bound)).status_code == 403
