"""The app as a whole: it starts, it says how it is, and nothing about it depends on Temporal being there."""

import base64
from datetime import UTC, datetime

from pydantic import SecretStr

from domain.reconciliation import Finding, Round
from tests.api.conftest import PROJECT, Api, Start


async def test_it_lives_and_says_which_dependency_is_missing(api: Api) -> None:
    assert (await api.client.get("/healthz")).json() == {"status": "ok"}
    ready = await api.client.get("/readyz")
    assert ready.status_code == 503
    assert ready.headers["Retry-After"]
    assert ready.json()["dependencies"]["database"] == "ok"
    assert ready.json()["dependencies"]["temporal"] == "Temporal does not answer"


async def test_a_check_up_says_what_is_missing(api: Api) -> None:
    checkup = (await api("POST", "/v1/doctor")).json()
    problems = {part["name"]: part["problem"] for part in checkup["parts"]}
    assert problems.pop("temporal").startswith("Temporal does not answer")
    assert problems == {"database": None, "migrations": None, "secret keys": None}
    assert checkup["round"] is None


async def test_a_check_up_finds_secrets_that_no_key_opens(start: Start) -> None:
    first = await start()
    await first.make("/v1/projects", {**PROJECT, "configuration": {"secrets": {"KEY": "a-secret-value"}}})
    own = (await first("POST", "/v1/doctor")).json()["parts"]
    assert [part["problem"] for part in own if part["name"] == "secret keys"] == [None]
    other_key = SecretStr("other:" + base64.b64encode(bytes(31) + b"1").decode())
    other = await start(secret_keys=other_key, first_token=SecretStr("hw_another-first-token"))
    checkup = (await other("POST", "/v1/doctor", token="hw_another-first-token")).json()
    problems = {part["name"]: part["problem"] for part in checkup["parts"]}
    assert "does not open data key site" in problems["secret keys"]


async def test_figures_of_the_reconciler_are_there_after_its_first_round(api: Api) -> None:
    assert "headway_zombies" not in (await api.client.get("/metrics")).text
    findings = [Finding(id="a", problem="building, workflow terminated", mend="repaired")]
    for _ in range(2):
        await api.services.reconciliation.note(Round(at=datetime.now(UTC), zombies=1, findings=findings))
    page = (await api.client.get("/metrics")).text
    for line in (
        "zombies 1.0",
        "orphan_workflows 0.0",
        "held_lanes_of_finished 0.0",
        'mended_total{what="repaired"} 2.0',
    ):
        assert f"\nheadway_{line}\n" in page
    assert "\nheadway_reconciliation_age_seconds " in page


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
