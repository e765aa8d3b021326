"""Logs in pages, as a download and searched."""

from datetime import UTC, datetime
from typing import Any

import pytest

from domain.log import LogBatch, LogLevel, LogLine
from tests.api.conftest import Api

LEVELS = tuple(LogLevel)


@pytest.fixture
async def deployment_id(api: Api, site: dict[str, Any]) -> str:
    """A deployment with ten lines, of rising level and by turns of two steps."""
    made = await api.make("/v1/deployments", {"projectId": "site", "sourceRef": "main"})
    lines = [
        LogLine(
            timestamp=datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC),
            level=LEVELS[number % 4],
            message=f"line {number} 100%",
            step=("build", "publish")[number % 2],
        )
        for number in range(1, 11)
    ]
    await api.services.logs.append(made["id"], LogBatch(stream="build", after="", cursor="10", lines=lines))
    identity: str = made["id"]
    return identity


async def numbers(api: Api, address: str) -> list[int]:
    return [int(item["id"]) for item in (await api("GET", address)).json()["items"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", list(range(1, 11))),
        ("level=warn", [2, 3, 6, 7, 10]),
        ("step=publish&level=error", [3, 7]),
        ("source=deploy", []),
        ("since=2026-01-01T00:00:08Z", [8, 9, 10]),
        ("since=2026-01-01T01:00:08%2B01:00", [8, 9, 10]),
        ("since=0001-01-01T00:00:00%2B05:00&q=LINE%201", [1, 10]),
        ("q=100%25", list(range(1, 11))),
        ("q=1_0", []),
        ("offset=8", [9, 10]),
        ("after=7&limit=2", [8, 9]),
        ("cursor=7&limit=2", [8, 9]),
        ("tail=2", [9, 10]),
        ("tail=5&limit=1", [10]),
    ],
)
async def test_a_page_has_the_lines_that_were_asked_for(
    api: Api, deployment_id: str, query: str, expected: list[int]
) -> None:
    assert await numbers(api, f"/v1/deployments/{deployment_id}/logs?{query}") == expected


@pytest.mark.parametrize("query", ["level=loud", "since=yesterday", "since=2026-01-01", "since=0", "q=%00", "after=-1"])
async def test_a_filter_that_cannot_be_read_is_refused(api: Api, deployment_id: str, query: str) -> None:
    answer = await api("GET", f"/v1/deployments/{deployment_id}/logs?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/query/{query.split('=', maxsplit=1)[0]}"


async def test_the_links_lead_through_the_whole_log(api: Api, deployment_id: str) -> None:
    address, met = f"/v1/deployments/{deployment_id}/logs?limit=3&level=info", []
    while address:
        answer = await api("GET", address)
        met += [int(item["id"]) for item in answer.json()["items"]]
        address = answer.headers.get("Link", "").removeprefix("<").removesuffix('>; rel="next"')
    assert met == [1, 2, 3, 5, 6, 7, 9, 10]


async def test_a_download_has_every_line_with_its_time(api: Api, deployment_id: str) -> None:
    answer = await api("GET", f"/v1/deployments/{deployment_id}/logs?level=error", headers={"Accept": "text/plain"})
    assert answer.headers["Content-Disposition"] == f'attachment; filename="deployment-{deployment_id}.log"'
    assert answer.text.splitlines() == [
        "2026-01-01T00:00:03.000Z error [publish] line 3 100%",
        "2026-01-01T00:00:07.000Z error [publish] line 7 100%",
    ]


async def test_a_search_goes_over_all_deployments_of_the_project(api: Api, deployment_id: str) -> None:
    other = (await api.make("/v1/deployments", {"projectId": "site", "sourceRef": "main", "force": True}))["id"]
    lines = [LogLine(datetime(2026, 1, 2, tzinfo=UTC), "line of another")]
    await api.services.logs.append(other, LogBatch(stream="build", after="", cursor="1", lines=lines))
    address, met = "/v1/projects/site/logs/search?q=line&limit=4&since=2026-01-01T00:00:02Z", []
    while address:
        answer = await api("GET", address)
        met += [(item["deploymentId"], int(item["id"])) for item in answer.json()["items"]]
        address = answer.headers.get("Link", "").removeprefix("<").removesuffix('>; rel="next"')
    assert met == [(other, 1), *((deployment_id, number) for number in range(2, 11))]
    assert await numbers(api, "/v1/projects/site/logs/search?until=2026-01-01T00:00:03Z") == [1, 2]
