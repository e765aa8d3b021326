"""Environments over HTTP: deleting one, and what is answered about it afterwards."""

from typing import Any

from tests.api.conftest import Api


async def made(api: Api, name: str = "staging") -> tuple[str, str]:
    """Its address and its entity tag."""
    answer = await api("POST", "/v1/projects/site/environments", {"name": name})
    return f"/v1/environments/{answer.json()['id']}", answer.headers["ETag"]


async def test_an_environment_is_deleted_once_and_is_missing_afterwards(api: Api, site: dict[str, Any]) -> None:
    path, _ = await made(api)
    answer = await api("DELETE", path)
    assert (answer.status_code, answer.content) == (204, b"")
    for method in ("GET", "DELETE", "PATCH"):
        gone = await api(method, path, {} if method == "PATCH" else None)
        assert (gone.status_code, gone.json()["code"]) == (404, "deployment/environment-not-found")
    listed = (await api("GET", "/v1/projects/site/environments")).json()
    assert [one["name"] for one in listed["items"]] == ["production"]
    asked = {"projectId": "site", "sourceRef": "main", "configuration": {"environment": "staging"}}
    assert (await api("POST", "/v1/deployments", asked)).json()["code"] == "deployment/environment-not-found"
    assert (await made(api))[0] != path


async def test_a_stale_entity_tag_deletes_nothing(api: Api, site: dict[str, Any]) -> None:
    path, seen = await made(api)
    current = (await api("PATCH", path, {"concurrency": "queue"})).headers["ETag"]
    assert (await api("DELETE", path, headers={"If-Match": seen})).status_code == 412
    assert (await api("DELETE", path, headers={"If-Match": current})).status_code == 204


async def test_it_is_for_admins_and_refused_while_something_runs(api: Api, site: dict[str, Any]) -> None:
    path, _ = await made(api)
    deployer = await api.token("read", "deploy", "approve")
    assert (await api("DELETE", path, token=deployer)).status_code == 403
    asked = {"projectId": "site", "sourceRef": "main", "configuration": {"environment": "staging"}}
    running = await api.make("/v1/deployments", asked)
    refused = await api("DELETE", path)
    assert (refused.status_code, refused.json()["code"]) == (409, "deployment/conflict")
    assert refused.json()["activeDeploymentIds"] == [running["id"]]
    assert running["id"] in refused.json()["detail"]
