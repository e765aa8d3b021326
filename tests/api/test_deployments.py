"""Trigger, list, cancel, retry and result over HTTP; the worker's part is written by its own store."""

from datetime import UTC, datetime
from typing import Any

import pytest

from domain.ending import Ending
from domain.log import LogBatch, LogLine
from domain.states import Status
from store.database import Database
from store.progress import ProgressStore
from store.seal import Sealer
from tests.api.conftest import PROJECT, Api, Start
from tests.servers import eventually


@pytest.fixture
def progress(database: Database, sealer: Sealer) -> ProgressStore:
    return ProgressStore(database, sealer)


async def trigger(api: Api, **more: Any) -> Any:
    return await api.make("/v1/deployments", {"projectId": "site", "sourceRef": "main", **more})


async def test_a_trigger_says_who_and_runs_with_the_merged_configuration(api: Api, site: dict[str, Any]) -> None:
    ada = await api.token("deploy", subject="ada")
    body = {
        "projectId": "site",
        "sourceRef": "main",
        "configuration": {"outputDirectory": "public", "environmentVariables": {"A": "1", "NPM_TOKEN": "hidden"}},
    }
    answer = await api("POST", "/v1/deployments", body, token=ada)
    deployment = answer.json()
    assert deployment["triggeredBy"] == "ada"
    assert deployment["configuration"]["buildCommand"] == PROJECT["configuration"]["buildCommand"]
    assert deployment["configuration"]["outputDirectory"] == "public"
    assert deployment["configuration"]["secrets"] == {"NPM_TOKEN": "***"}
    assert deployment["configurationDigest"].startswith("sha256:")
    assert deployment["links"]["self"] == answer.headers["Location"]
    assert "hidden" not in answer.text


async def test_the_environment_may_be_named_and_must_be_the_projects(api: Api, site: dict[str, Any]) -> None:
    staging = await api.make("/v1/projects/site/environments", {"name": "staging", "type": "staging"})
    assert (await trigger(api, environmentId=staging["id"]))["environmentId"] == staging["id"]
    await api.make("/v1/projects", {**PROJECT, "id": "other"})
    foreign = await api(
        "POST", "/v1/deployments", {"projectId": "other", "sourceRef": "main", "environmentId": staging["id"]}
    )
    assert (foreign.status_code, foreign.json()["code"]) == (404, "deployment/environment-not-found")


async def test_a_list_is_filtered_sorted_and_shows_the_end_of_logs(api: Api, site: dict[str, Any]) -> None:
    first = await trigger(api)
    second = await trigger(api, sourceRef="v1", force=True)
    lines = [LogLine(datetime(2026, 1, 1, tzinfo=UTC), "done")]
    await api.services.logs.append(first["id"], LogBatch(stream="build", after="", cursor="1", lines=lines))

    async def ids(query: str) -> list[str]:
        page = (await api("GET", f"/v1/projects/site/deployments?{query}")).json()
        return [item["id"] for item in page["items"]]

    assert await ids("") == [second["id"], first["id"]]
    assert await ids("sortOrder=asc&sortBy=startedAt&limit=1") == [first["id"]]
    assert await ids("sourceRef=v1") == [second["id"]]
    assert await ids("status=failed&status=created&triggeredBy=operator&sourceRef=main") == [first["id"]]
    assert await ids("status=failed") == []
    assert await ids("environmentId=nonsense") == []
    assert (await api("GET", "/v1/projects/site/deployments?status=gone")).status_code == 422
    page = (await api("GET", "/v1/projects/site/deployments?includeLogs=true")).json()
    assert [item["logs"] for item in page["items"]] == [[], ["done"]]


async def test_cancel_asks_once_and_a_finished_one_is_left_alone(
    api: Api, site: dict[str, Any], progress: ProgressStore
) -> None:
    identity = (await trigger(api))["id"]
    first, second = [await api("POST", f"/v1/deployments/{identity}/cancel") for _ in range(2)]
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["cancelRequestedAt"] == second.json()["cancelRequestedAt"] is not None
    await progress.finish(identity, Ending(status=Status.CANCELED))
    late = await api("POST", f"/v1/deployments/{identity}/cancel")
    assert (late.status_code, late.json()["code"]) == (409, "deployment/conflict")


async def test_retry_repeats_what_did_not_succeed(api: Api, site: dict[str, Any], progress: ProgressStore) -> None:
    parent = await trigger(api)
    running = await api("POST", f"/v1/deployments/{parent['id']}/retry")
    assert running.status_code == 409
    await progress.finish(parent["id"], Ending(status=Status.FAILED))
    await api("PATCH", "/v1/projects/site", {"configuration": {"outputDirectory": "elsewhere"}})
    answer = await api("POST", f"/v1/deployments/{parent['id']}/retry", {"configuration": {"nodeVersion": "22"}})
    child = answer.json()
    assert (answer.status_code, child["metadata"]["retryCount"]) == (202, 1)
    assert child["metadata"]["parentDeploymentId"] == parent["id"]
    assert child["configuration"] == {**parent["configuration"], "nodeVersion": "22"}


async def test_one_key_for_retries_of_two_deployments_is_a_mismatch(
    api: Api, site: dict[str, Any], progress: ProgressStore
) -> None:
    statuses = []
    for _ in range(2):
        parent = await trigger(api)
        await progress.finish(parent["id"], Ending(status=Status.FAILED))
        answer = await api("POST", f"/v1/deployments/{parent['id']}/retry", {"force": True}, {"Idempotency-Key": "k"})
        statuses.append(answer.status_code)
        if answer.is_success:
            await progress.finish(answer.json()["id"], Ending(status=Status.FAILED))
    assert statuses == [202, 422]


async def test_result_and_metrics_are_null_until_there_are_some(
    api: Api, site: dict[str, Any], progress: ProgressStore
) -> None:
    identity = (await trigger(api))["id"]
    for name in ("result", "metrics"):
        answer = await api("GET", f"/v1/deployments/{identity}/{name}")
        assert (answer.status_code, answer.json()) == (200, None)
    await progress.finish(identity, Ending(status=Status.FAILED))
    result = (await api("GET", f"/v1/deployments/{identity}/result")).json()
    assert (result["success"], result["deploymentId"]) == (False, identity)
    assert (await api("GET", f"/v1/deployments/{identity}/metrics")).json() == result["metrics"]


async def test_what_is_accepted_reaches_temporal_at_once(start: Start, temporal: str, database: Database) -> None:
    api = await start(temporal_address=temporal)
    await api.make("/v1/projects", PROJECT)
    identity = (await trigger(api))["id"]

    async def column(name: str) -> Any:
        row = await database.fetch_one(f"select {name} as it from deployments where id = %(id)s", {"id": identity})
        return row and row["it"]

    async def started() -> bool:
        return await column("workflow_started_at") is not None

    async def canceled() -> bool:
        return await column("cancel_delivered_at") is not None

    await eventually(started)
    assert (await api("POST", f"/v1/deployments/{identity}/cancel")).status_code == 202
    await eventually(canceled)
    assert (await api.client.get("/readyz")).json()["status"] == "ready"


async def test_prometheus_reads_routes_and_active_deployments(api: Api, site: dict[str, Any]) -> None:
    identity = (await trigger(api))["id"]
    await api("GET", f"/v1/deployments/{identity}")
    page = (await api.client.get("/metrics")).text
    assert 'headway_http_requests_total{method="GET",route="/v1/deployments/{deployment_id}",status="200"} 1.0' in page
    assert 'headway_active_deployments{status="created"} 1.0' in page
    assert 'headway_triggers_total{replayed="false"} 1.0' in page
    assert identity not in page
    await api.services.database.close()
    without = await api.client.get("/metrics")
    assert without.status_code == 200
    assert "headway_active_deployments{" not in without.text
