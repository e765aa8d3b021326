"""The app as a whole: it starts, it says how it is, and nothing about it depends on Temporal being there."""

from tests.api.conftest import PROJECT, Api, Start


async def test_it_lives_and_says_which_dependency_is_missing(api: Api) -> None:
    assert (await api.client.get("/healthz")).json() == {"status": "ok"}
    ready = await api.client.get("/readyz")
    assert ready.status_code == 503
    assert ready.headers["Retry-After"]
    assert ready.json()["dependencies"]["database"] == "ok"
    assert ready.json()["dependencies"]["temporal"] == "Temporal does not answer"


async def test_a_deployment_is_accepted_while_temporal_is_away(api: Api, site: dict[str, object]) -> None:
    answer = await api("POST", "/v1/deployments", {"projectId": "site", "sourceRef": "main"})
    assert answer.status_code == 202
    assert answer.json()["status"] == "created"
    assert answer.headers["Location"] == f"/v1/deployments/{answer.json()['id']}"
    assert (await api("GET", answer.headers["Location"])).json() == answer.json()


async def test_what_one_process_makes_another_one_shows(api: Api, start: Start) -> None:
    other = await start()
    await api.make("/v1/projects", PROJECT)
    assert (await other("GET", "/v1/projects/site")).json()["repositoryUrl"] == PROJECT["repositoryUrl"]
