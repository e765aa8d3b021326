"""Operators see what Temporal keeps sealed, through our route: with a token, or from its UI with the UI's key."""

import base64
import json
from typing import Any

import httpx
import pytest

from store.seal import Sealer
from tests.api.conftest import FIRST_TOKEN, Api, Start, served
from tests.compose import output_of
from tests.servers import TEMPORAL
from workflows.control import connect
from workflows.deployment import DeploymentWorkflow
from workflows.plan import DeploymentPlan

UI = "http://127.0.0.1:8082"
KEY = "the-key-of-the-ui"
DECODE, ENCODE, FOR_UI = (f"/v1/temporal/codec/{path}" for path in ("decode", "encode", f"{KEY}/decode"))
CLEAR = {"payloads": [{"metadata": {"encoding": base64.b64encode(b"json/plain").decode()}, "data": "ImEgc2l0ZSI="}]}


@pytest.fixture
async def api(start: Start) -> Api:
    return await start(temporal_ui_url=f"{UI}/", temporal_ui_key=KEY)


async def from_ui(api: Api, path: str = FOR_UI, origin: str = UI, **headers: str) -> httpx.Response:
    """As the page in a browser asks: no token."""
    sealed = (await api("POST", ENCODE, CLEAR)).json()
    return await api.client.post(path, json=sealed, headers={"Origin": origin, "X-Namespace": "default", **headers})


async def test_what_is_encoded_is_decoded_again(api: Api) -> None:
    sealed = await api("POST", ENCODE, CLEAR)
    assert sealed.json() != CLEAR
    assert (await api("POST", DECODE, sealed.json())).json() == CLEAR


async def test_what_is_in_clear_is_answered_as_it_is_and_unknown_members_are_ignored(api: Api) -> None:
    newer = {"payloads": [{**CLEAR["payloads"][0], "externalPayloads": []}], "more": 1}
    assert (await api("POST", DECODE, newer)).json() == CLEAR
    assert (await api("POST", DECODE, {})).json() == {}


@pytest.mark.parametrize(
    "body",
    [
        [],
        5,
        "payloads",
        {"payloads": 5},
        {"payloads": [{"data": 5}]},
        {"payloads": ["A"]},
        {"payloads": [{"data": "?"}]},
        {"payloads": None},
    ],
)
async def test_other_documents_are_refused(api: Api, body: Any) -> None:
    refused = await api("POST", DECODE, body)
    assert (refused.status_code, refused.json()["code"]) == (422, "deployment/invalid-request")


async def test_a_document_that_is_too_large_is_refused(api: Api) -> None:
    large = {"payloads": [{"data": "AAAA" * 300_000}]}
    assert [(await api("POST", path, large)).status_code for path in (DECODE, ENCODE, FOR_UI)] == [413, 413, 413]


async def test_an_admin_of_some_projects_sees_nothing(api: Api) -> None:
    bound = await api.token("admin", projects=["site"])
    assert (await api("POST", DECODE, CLEAR, token=bound)).status_code == 403


async def test_the_ui_has_its_key_in_its_address(api: Api) -> None:
    answer = await from_ui(api)
    assert answer.json() == CLEAR
    assert answer.headers["Access-Control-Allow-Origin"] == UI
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"


@pytest.mark.parametrize("path", [DECODE, FOR_UI.replace(KEY, "a-guess"), FOR_UI.replace(KEY, "%C3%A4")])
async def test_without_its_key_it_sees_nothing(api: Api, path: str) -> None:
    assert (await from_ui(api, path)).status_code == 401


async def test_its_key_seals_nothing(api: Api) -> None:
    assert (await from_ui(api, f"/v1/temporal/codec/{KEY}/encode")).status_code == 404


async def test_where_no_key_is_set_none_is_right(start: Start) -> None:
    closed = await start(temporal_ui_url=UI)
    for key in ("", "None", "x"):
        assert (await from_ui(closed, f"/v1/temporal/codec/{key}/decode")).status_code in {401, 404}


async def test_pages_of_the_ui_alone_may_call_from_a_browser_and_no_other_route(api: Api) -> None:
    async def allowed(path: str, origin: str) -> Any:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-namespace"}
        answer = await api.client.options(path, headers={"Origin": origin, **asked})
        return answer.headers.get("Access-Control-Allow-Origin")

    assert [await allowed(path, UI) for path in (DECODE, FOR_UI)] == [UI, UI]
    assert await allowed(FOR_UI, "http://evil.example.org") is None
    assert await allowed(FOR_UI, "http://127.0.0.1:8083") is None
    assert await allowed("/v1/deployments", UI) is None
    assert "Access-Control-Allow-Origin" not in (await from_ui(api, origin="http://evil.example.org")).headers


async def test_a_history_is_sealed_at_temporal_and_read_through_the_route(
    database_url: str, temporal: str, sealer: Sealer
) -> None:
    plan = {"deploymentId": "d", "projectId": "shown-to-operators", "environment": "production", "provider": "internal"}
    rest = {"sourceRef": "main", "skipDeploy": False, "timeoutSeconds": 60, "buildTimeoutSeconds": 60}
    client = await connect(temporal, "default", sealer)
    handle = await client.start_workflow(
        DeploymentWorkflow.run,
        DeploymentPlan.model_validate({**plan, **rest}),
        id="deployment-sealed",
        task_queue="nobody",
        static_summary="shown-to-operators → production",
    )
    show = [TEMPORAL, "workflow", "show", "--output", "json", "--address", temporal, "--workflow-id", handle.id]
    assert "shown-to-operators" not in await clear_text(*show)
    async with served(database_url, temporal_ui_key=KEY) as api:
        url = f"{api.client.base_url}".rstrip("/") + "/v1/temporal/codec"
        with_token = ["--codec-endpoint", url, "--codec-auth", f"Bearer {FIRST_TOKEN}"]
        assert "shown-to-operators" in await clear_text(*show, *with_token)
        assert "shown-to-operators" in await clear_text(*show, "--codec-endpoint", f"{url}/{KEY}")
    await handle.terminate()


async def clear_text(*command: str) -> str:
    """What the command shows, with what is in base64 there."""
    shown = await output_of(*command)
    return shown + " ".join(base64.b64decode(text).decode("latin1") for text in _data(json.loads(shown)))


def _data(document: Any) -> list[str]:
    if isinstance(document, list):
        return [found for part in document for found in _data(part)]
    if not isinstance(document, dict):
        return []
    own = [document["data"]] if isinstance(document.get("data"), str) else []
    return own + [found for part in document.values() for found in _data(part)]
