"""The description is complete, and the service keeps to it whatever is sent."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from api.app import ROUTES
from api.problems import MEDIA_TYPE
from tests.api.conftest import FIRST_TOKEN, Api, served

SCHEMATHESIS = Path(sys.executable).with_name("st")
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
CASES = 2000


async def description(api: Api) -> dict[str, Any]:
    document: dict[str, Any] = (await api.client.get("/openapi.json")).json()
    return document


async def test_every_route_is_described_with_its_refusals(api: Api) -> None:
    document = await description(api)
    assert document["openapi"].startswith("3.1")
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(method, route.path) for route in ROUTES for method in route.methods or ()}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["operationId"]
            assert operation["summary"]
            assert operation["tags"]
            assert "500" in operation["responses"]
            if "security" in operation:
                assert {"401", "403", "503"} <= operation["responses"].keys(), path
            if "requestBody" in operation:
                assert {"400", "413", "415", "422"} <= operation["responses"].keys(), path


async def test_every_refusal_is_described_as_a_problem(api: Api) -> None:
    for path, methods in (await description(api))["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path != "/readyz":
                    assert list(response["content"]) == [MEDIA_TYPE], (path, status)


async def test_bodies_refuse_unknown_members_at_every_level(api: Api) -> None:
    schemas = (await description(api))["components"]["schemas"]
    bodies = [name for name in schemas if name.endswith("Request")] + ["ConfigurationChange"]
    assert len(bodies) == 10
    assert all(schemas[name]["additionalProperties"] is False for name in bodies)


async def test_all_references_lead_somewhere(api: Api) -> None:
    document = await description(api)
    text = json.dumps(document)
    for name in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert name in document["components"]["schemas"]


async def test_what_the_examples_show_is_accepted(api: Api) -> None:
    document = await description(api)

    def example(method: str, path: str) -> Any:
        return document["paths"][path][method]["requestBody"]["content"]["application/json"]["example"]

    await api.make("/v1/projects", example("post", "/v1/projects"))
    await api.make("/v1/deployments", example("post", "/v1/deployments"))
    await api.make("/v1/tokens", example("post", "/v1/tokens"))
    await api.make("/v1/projects/site/environments", example("post", "/v1/projects/{project_id}/environments"))
    changed = await api("PATCH", "/v1/projects/site", example("patch", "/v1/projects/{project_id}"))
    assert changed.status_code == 200


@pytest.mark.timeout(600)  # a crowded machine takes its time over thousands of requests
async def test_a_fuzzer_finds_no_failure_and_no_answer_outside_the_description(
    database_url: str, temporal: str
) -> None:
    async with served(database_url, temporal_address=temporal, trigger_limit=1000) as api:
        await description(api)  # which is made when it is first asked for: the fuzzer waits 10 s for it
        process = await asyncio.create_subprocess_exec(
            str(SCHEMATHESIS),
            *("--config-file", str(CONFIGURATION)),
            *("run", f"{api.client.base_url}/openapi.json"),
            *("--header", f"Authorization: Bearer {FIRST_TOKEN}"),
            *("--max-examples", "6", "--workers", "2", "--generation-deterministic", "--no-color"),
            "--suppress-health-check=too_slow",  # the machine's fault, not the description's
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    generated = re.search(r"(\d+) generated, (\d+) passed", output)
    assert generated, output
    assert int(generated[1]) == int(generated[2]) >= CASES
