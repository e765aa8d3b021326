"""Logs in pages, as a download and searched."""

from collections.abc import AsyncIterator
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
            message=f"line {number} \x1b[31m100%\x1b[0m",
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
        ("q=LINE&caseSensitive=true", []),
        ("q=line%201&caseSensitive=true", [1, 10]),
        (r"q=e%20%5B2-4%5D%5Cb&regex=true", [2, 3, 4]),
        ("q=%20100%25$&regex=true", list(range(1, 11))),
        ("q=&regex=true", list(range(1, 11))),
        ("until=2026-01-01T00:00:03Z", [1, 2]),
        ("since=2026-01-01T00:00:02Z&until=2026-01-01T00:00:09Z&level=error", [3, 7]),
        ("offset=8", [9, 10]),
        ("after=7&limit=2", [8, 9]),
        ("cursor=7&limit=2", [8, 9]),
        ("after=2&cursor=7&limit=2", [8, 9]),
        ("tail=2", [9, 10]),
        ("tail=5&limit=1", [10]),
        ("tail=2&level=warn", [7, 10]),
    ],
)
async def test_a_page_has_the_lines_that_were_asked_for(
    api: Api, deployment_id: str, query: str, expected: list[int]
) -> None:
    assert await numbers(api, f"/v1/deployments/{deployment_id}/logs?{query}") == expected


@pytest.mark.parametrize(
    "query",
    [
        "level=loud",
        "since=yesterday",
        "since=2026-01-01",
        "since=0",
        "until=tomorrow",
        "q=%00",
        "q=(&regex=true",
        r"q=(a)%5C1&regex=true",
        "q=(%3F=a)&regex=true",
        "regex=yes",
        "caseSensitive=1",
        "limit=1001",
        "after=-1",
    ],
)
async def test_a_filter_that_cannot_be_read_is_refused(api: Api, deployment_id: str, query: str) -> None:
    answer = await api("GET", f"/v1/deployments/{deployment_id}/logs?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/query/{query.split('=', maxsplit=1)[0]}"


async def walk(api: Api, address: str) -> AsyncIterator[list[dict[str, Any]]]:
    """Page by page, by the links."""
    while address:
        answer = await api("GET", address)
        assert answer.status_code == 200, answer.text
        yield answer.json()["items"]
        address = answer.headers.get("Link", "").removeprefix("<").removesuffix('>; rel="next"')


@pytest.mark.parametrize("more", ["", "&after=0", "&offset=0"])
async def test_the_links_lead_through_the_whole_log(api: Api, deployment_id: str, more: str) -> None:
    address = f"/v1/deployments/{deployment_id}/logs?limit=3&level=info{more}"
    assert [[int(item["id"]) for item in items] async for items in walk(api, address)] == [
        [1, 2, 3],
        [5, 6, 7],
        [9, 10],
    ]


async def test_a_page_whose_time_is_over_says_where_to_go_on(
    api: Api, deployment_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.log_match.Budget.spent", True)
    for address in (f"/v1/deployments/{deployment_id}/logs", "/v1/projects/site/logs/search"):
        pages = [
            [int(item["id"]) for item in items] async for items in walk(api, f"{address}?q=line%20[57]&regex=true")
        ]
        assert [number for page in pages for number in page] == [5, 7]
        assert len(pages) > 1
        assert [] in pages


async def test_a_download_has_every_line_as_text(api: Api, deployment_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.routes.logs._MOST", 1)
    address = f"/v1/deployments/{deployment_id}/logs?level=error"
    answer = await api("GET", address, headers={"Accept": "text/plain"})
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="deployment-{deployment_id}.log"'
    assert answer.text.splitlines() == [
        "2026-01-01T00:00:03.000Z error [publish] line 3 100%",
        "2026-01-01T00:00:07.000Z error [publish] line 7 100%",
    ]
    without = await api("GET", f"{address}&timestamps=false&tail=1", headers={"Accept": "text/plain"})
    assert without.text == "error [publish] line 7 100%\n"


async def test_a_download_of_what_cannot_be_read_is_refused(api: Api, deployment_id: str) -> None:
    address = f"/v1/deployments/{deployment_id}/logs?q=(&regex=true"
    assert (await api("GET", address, headers={"Accept": "text/plain"})).status_code == 422


async def test_a_search_goes_over_all_deployments_of_the_project(api: Api, deployment_id: str) -> None:
    other = (await api.make("/v1/deployments", {"projectId": "site", "sourceRef": "main", "force": True}))["id"]
    lines = [LogLine(timestamp=datetime(2026, 1, 2, tzinfo=UTC), message="line of another")]
    await api.services.logs.append(other, LogBatch(stream="build", after="", cursor="1", lines=lines))
    address = "/v1/projects/site/logs/search?q=line&limit=4&since=2026-01-01T00:00:02Z"
    met = [(item["deploymentId"], int(item["id"])) async for items in walk(api, address) for item in items]
    assert met == [(other, 1), *((deployment_id, number) for number in range(2, 11))]
    assert await numbers(api, "/v1/projects/site/logs/search?until=2026-01-01T00:00:03Z") == [1, 2]


async def test_a_match_comes_with_the_lines_around_it(api: Api, deployment_id: str) -> None:
    address = "/v1/projects/site/logs/search?q=line%20(2|7)%20&regex=true&context=2&level=warn"
    matches = (await api("GET", address)).json()["items"]
    assert [
        [[int(line["id"]) for line in match["before"]], int(match["id"]), [int(line["id"]) for line in match["after"]]]
        for match in matches
    ] == [[[1], 2, [3, 4]], [[5, 6], 7, [8, 9]]]


@pytest.mark.parametrize("query", ["context=11", "context=-1", "cursor=7", "q=(&regex=true"])
async def test_a_search_that_cannot_be_read_is_refused(api: Api, deployment_id: str, query: str) -> None:
    assert (await api("GET", f"/v1/projects/site/logs/search?{query}")).status_code == 422


async def test_nobody_searches_what_is_out_of_reach(api: Api, deployment_id: str) -> None:
    assert (await api("GET", "/v1/projects/nobody/logs/search?q=line")).status_code == 404
    stranger = await api.token("read", projects=["other"])
    assert (await api("GET", "/v1/projects/site/logs/search?q=line", token=stranger)).status_code == 404


async def test_a_search_skips_as_many_as_it_is_told(api: Api, deployment_id: str) -> None:
    address = "/v1/projects/site/logs/search?q=line"
    everything = await numbers(api, f"{address}&limit=100")
    assert await numbers(api, f"{address}&offset=3&limit=2") == everything[3:5]
    assert await numbers(api, f"{address}&offset={len(everything)}") == []
