"""Entity tags and pages."""

import asyncio
from typing import Any

import pytest

from tests.api.conftest import PROJECT, Api


@pytest.fixture
async def tagged(api: Api, site: dict[str, Any]) -> list[str]:
    """One address of each kind that carries a tag."""
    environment = (await api("GET", "/v1/projects/site/environments")).json()["items"][0]["id"]
    deployment = (await api.make("/v1/deployments", {"projectId": "site", "sourceRef": "main"}))["id"]
    return ["/v1/projects/site", f"/v1/environments/{environment}", f"/v1/deployments/{deployment}"]


async def test_a_tag_is_strong_and_spares_the_second_reading(api: Api, tagged: list[str]) -> None:
    for address in tagged:
        tag = (await api("GET", address)).headers["ETag"]
        assert tag.startswith('"')
        for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            answer = await api("GET", address, headers={"If-None-Match": sent})
            assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
        assert (await api("GET", address, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_a_change_gives_another_tag(api: Api, site: dict[str, Any]) -> None:
    before = (await api("GET", "/v1/projects/site")).headers["ETag"]
    changed = await api("PATCH", "/v1/projects/site", {"name": "Site"})
    assert changed.headers["ETag"] != before
    assert (await api("GET", "/v1/projects/site", headers={"If-None-Match": before})).json()["name"] == "Site"


@pytest.mark.parametrize("kind", ["project", "environment"])
async def test_a_change_of_what_was_changed_meanwhile_is_refused(api: Api, tagged: list[str], kind: str) -> None:
    address = tagged[0] if kind == "project" else tagged[1]
    seen = (await api("GET", address)).headers["ETag"]
    first = await api("PATCH", address, {"concurrency": "parallel"}, {"If-Match": seen})
    late = await api("PATCH", address, {"concurrency": "reject"}, {"If-Match": seen})
    assert (first.status_code, late.status_code) == (200, 412)
    assert late.json()["code"] == "deployment/precondition-failed"
    weak = await api("PATCH", address, {}, {"If-Match": "W/" + first.headers["ETag"]})
    anything = await api("PATCH", address, {}, {"If-Match": "*"})
    assert (weak.status_code, anything.status_code) == (412, 200)


async def test_of_many_changes_to_one_version_one_wins(api: Api, site: dict[str, Any]) -> None:
    seen = {"If-Match": (await api("GET", "/v1/projects/site")).headers["ETag"]}
    changes = (api("PATCH", "/v1/projects/site", {"name": f"n{number}"}, seen) for number in range(20))
    statuses = [answer.status_code for answer in await asyncio.gather(*changes)]
    assert (statuses.count(200), statuses.count(412)) == (1, 19)


async def test_a_change_leaves_alone_what_it_does_not_name(api: Api, site: dict[str, Any]) -> None:
    change = {"configuration": {"outputDirectory": "public", "buildCommand": None, "secrets": {"API_TOKEN": "s3cr3t"}}}
    changed = (await api("PATCH", "/v1/projects/site", change)).json()
    assert changed["repositoryUrl"] == PROJECT["repositoryUrl"]
    assert changed["configuration"] == {"outputDirectory": "public", "secrets": {"API_TOKEN": "***"}}
    assert changed["version"] == site["version"] + 1


async def walk(api: Api, address: str) -> list[list[str]]:
    """The ids of every page, by following the links."""
    pages = []
    while address:
        answer = await api("GET", address)
        page = answer.json()
        pages.append([item["id"] for item in page["items"]])
        link = answer.headers.get("Link", "")
        assert bool(link) == (page["nextCursor"] is not None)
        address = link.removeprefix("<").removesuffix('>; rel="next"')
    return pages


async def test_a_walk_by_cursor_meets_everything_once_while_more_is_added(api: Api) -> None:
    for number in range(7):
        await api.make("/v1/projects", {**PROJECT, "id": f"p{number}"})
    first = await api("GET", "/v1/projects?limit=3")
    await api.make("/v1/projects", {**PROJECT, "id": "late"})
    rest = await walk(api, first.headers["Link"].removeprefix("<").removesuffix('>; rel="next"'))
    met = [item["id"] for item in first.json()["items"]] + [identity for page in rest for identity in page]
    assert met == [f"p{number}" for number in reversed(range(7))]


async def test_every_list_has_the_same_shape_and_bounds(api: Api, site: dict[str, Any]) -> None:
    deployment = (await api.make("/v1/deployments", {"projectId": "site", "sourceRef": "main"}))["id"]
    lists = {
        "/v1/projects": 100,
        "/v1/tokens": 100,
        "/v1/providers": 100,
        "/v1/projects/site/environments": 100,
        "/v1/projects/site/deployments": 100,
        f"/v1/deployments/{deployment}/logs": 1000,
        "/v1/projects/site/logs/search": 1000,
    }
    for address, most in lists.items():
        page = (await api("GET", address)).json()
        assert set(page) == {"items", "total", "limit", "offset", "nextCursor"}
        assert (page["limit"], page["offset"]) == (20, 0)
        assert (await api("GET", f"{address}?limit={most}&offset=10000&unknown=x")).status_code == 200
        far = () if address.endswith("/logs") else ("offset=10001",)  # a log is read at any line
        for query in ("limit=0", f"limit={most + 1}", "limit=1_0", "limit=", "offset=-1", *far):
            refused = await api("GET", f"{address}?{query}")
            assert refused.status_code == 422
            assert refused.json()["errors"][0]["pointer"] == f"/query/{query.split('=')[0]}"


async def test_a_cursor_that_is_not_ours_is_refused(api: Api) -> None:
    answer = await api("GET", "/v1/tokens?cursor=nonsense")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/query/cursor")
