"""What was overtaken does not go out: a site's publications only grow in number, whoever wakes late."""

import asyncio

import httpx
import pytest

from domain.fence import Overtaken
from providers.base import Build
from providers.internal.edge import Edge
from providers.internal.provider import Internal
from tests.providers.conftest import ANY_REQUEST, MakeInternal
from tests.providers.internal.test_edge import get, release

HOST = "http://production.shop.localhost/"


async def publish(internal: Internal, built: Build, number: int) -> None:
    await internal.publish_build(ANY_REQUEST.model_copy(update={"publication": number}), built)


async def served(edge: Edge) -> str:
    port = httpx.URL(edge.public_url).port
    return (await get(edge, HOST.replace("localhost/", f"localhost:{port}/"))).text


@pytest.fixture
def older(internal: Internal) -> Build:
    return release(internal, {"index.html": "older"})


@pytest.fixture
def newer(internal: Internal) -> Build:
    return release(internal, {"index.html": "newer"})


async def test_a_lower_number_does_not_go_out_and_changes_nothing(
    internal: Internal, edge: Edge, older: Build, newer: Build
) -> None:
    await publish(internal, newer, 7)
    sites = internal.sites.all()
    for attempt in (internal.publish_build, internal.repoint):
        with pytest.raises(Overtaken, match="serves publication 7, which came after 6"):
            await attempt(ANY_REQUEST.model_copy(update={"publication": 6}), older)
    assert await served(edge) == "newer"
    assert internal.sites.all() == sites
    assert (await get(edge, HOST.replace("production.shop", older.deployment_id.lower()))).status_code == 404


async def test_the_number_outlives_the_worker(
    make_internal: MakeInternal, internal: Internal, edge: Edge, older: Build, newer: Build
) -> None:
    await publish(internal, newer, 7)
    with pytest.raises(Overtaken):
        await publish(make_internal(), older, 6)
    assert await served(edge) == "newer"


async def test_an_attempt_goes_out_again_and_a_rollback_over_what_it_takes_back(
    internal: Internal, edge: Edge, older: Build, newer: Build
) -> None:
    for number, built, text in ((1, older, "older"), (1, older, "older"), (2, newer, "newer"), (3, older, "older")):
        await publish(internal, built, number)
        assert await served(edge) == text


async def test_a_site_of_old_has_no_number_and_is_gone_over(
    internal: Internal, edge: Edge, older: Build, newer: Build
) -> None:
    await publish(internal, older, 1)
    for file in internal.sites.root.glob("*.json"):
        file.write_text(file.read_text().replace('"publication":1', '"else":0'))
    await publish(internal, newer, 1)
    assert await served(edge) == "newer"


async def test_of_many_at_once_the_highest_stays(
    make_internal: MakeInternal, internal: Internal, edge: Edge, older: Build, newer: Build
) -> None:
    """Two workers on one directory."""
    other = make_internal()
    late = [publish(one, older, number) for number in range(1, 6) for one in (internal, other)]
    await asyncio.gather(*late, publish(other, newer, 6), return_exceptions=True)
    assert await served(edge) == "newer"
