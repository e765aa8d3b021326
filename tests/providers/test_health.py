"""The check of an address keeps asking until it is well, says what it saw, and reaches nothing that it must not."""

import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.errors import DeploymentError, ErrorCode
from domain.health import HealthCheck
from providers import health
from providers.base import Publication
from providers.health import AddressChecks
from tests.providers.hostile_hosts import NO_HOSTS
from tests.providers.test_http import Behave, Server, answer, huge, reset, silence


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PAUSE_SECONDS", 0.05)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server().running() as server:
        yield server


@pytest.fixture
async def checks() -> AsyncIterator[AddressChecks]:
    checks = AddressChecks(allow_private_addresses=True)
    yield checks
    await checks.close()


async def refused(checks: AddressChecks, publication: Publication, **wanted: Any) -> str:
    with pytest.raises(DeploymentError) as failed:
        await checks.check(HealthCheck.model_validate({"timeoutSeconds": 1, **wanted}), publication)
    assert (failed.value.code, failed.value.details["phase"]) == (ErrorCode.DEPLOY_FAILED, "deploying")
    return failed.value.message


async def test_an_address_that_becomes_well_is_well(server: Server, checks: AddressChecks) -> None:
    server.will(answer(503), reset, answer(204))
    line = await checks.check(HealthCheck(path="/up?deep=1"), Publication(deployment_url=server.url + "/sub/"))
    assert line.message == f"{server.url}/sub/up?deep=1 answers with status 204"
    assert [asked.line for asked in server.asked] == ["GET /sub/up?deep=1 HTTP/1.1"] * 3
    assert "authorization" not in server.asked[0].headers


@pytest.mark.parametrize(
    ("behave", "wanted", "seen"),
    [
        (answer(500), {}, "status 500, wanted status 200-399"),
        (answer(301, location="http://10.0.0.1/"), {"status": 200}, "status 301, wanted status 200"),
        (answer(204), {"status": [200, "300-399"]}, "status 204, wanted status 200 or 300-399"),
        (answer(200, b"half"), {"contains": "whole"}, "status 200 without the text, wanted status 200-399 and a body"),
        (huge, {"contains": "whole"}, "without the text"),
        (answer(200, b"no gzip", content_encoding="gzip"), {"contains": "gzip"}, "no answer that can be read"),
        (silence, {}, "no answer within 1 s"),
    ],
)
async def test_what_is_not_well_in_time_fails_with_what_was_seen(
    server: Server, checks: AddressChecks, behave: Behave, wanted: dict[str, Any], seen: str
) -> None:
    server.will(behave)
    assert seen in await refused(checks, Publication(deployment_url=server.url), **wanted)


async def test_a_text_is_found_in_a_packed_body(server: Server, checks: AddressChecks) -> None:
    server.will(answer(200, gzip.compress(b"a" * 70_000 + b"whole"), content_encoding="gzip"))
    line = await checks.check(HealthCheck(contains="whole"), Publication(deployment_url=server.url))
    assert line.message.endswith("status 200 with the text")


async def test_an_address_of_our_own_is_asked_for_the_public_host(server: Server) -> None:
    server.will(answer())
    guarded = AddressChecks(allow_private_addresses=False)
    public = "http://production.shop.example.org:8080/"
    await guarded.check(HealthCheck(path="/up"), Publication(deployment_url=public, reached_at=server.url))
    assert (server.asked[0].line, server.asked[0].headers["host"]) == (
        "GET /up HTTP/1.1",
        "production.shop.example.org:8080",
    )
    await guarded.close()


@pytest.mark.parametrize("address", ["{}", "http://169.254.169.254/latest", "http://[::ffff:127.0.0.1]:1/"])
async def test_an_address_that_is_not_public_is_not_reached(server: Server, address: str) -> None:
    guarded = AddressChecks(allow_private_addresses=False)
    message = await refused(guarded, Publication(deployment_url=address.format(server.url)))
    assert "not a public address" in message
    assert server.asked == []
    await guarded.close()


@pytest.mark.parametrize("address", [None, "javascript:alert(1)", "http://user@host/"])
async def test_what_is_no_address_is_not_well(checks: AddressChecks, address: str | None) -> None:
    assert "no address" in await refused(checks, Publication(deployment_url=address))


@pytest.mark.parametrize(
    ("status", "well", "unwell"),
    [(200, [200], [201]), ("200-299", [200, 299], [199, 300]), ([200, "400-404"], [200, 402], [201, 405])],
)
def test_a_status_is_one_a_range_or_a_list(status: Any, well: list[int], unwell: list[int]) -> None:
    check = HealthCheck(status=status)
    assert [check.accepts(one) for one in (*well, *unwell)] == [True] * len(well) + [False] * len(unwell)


@pytest.mark.parametrize("host", NO_HOSTS)
async def test_an_address_whose_host_is_none_fails_as_no_address(checks: AddressChecks, host: str) -> None:
    assert "no address" in await refused(checks, Publication(deployment_url=f"https://{host}/"))
