"""What a project's provider needs is asked for when the project is saved, and refused by name."""

from typing import Any

import pytest

from tests.api.conftest import Api
from tests.providers.custom_stand_in import described

SETTINGS = described("https://deploy.example.org")
PROJECT: dict[str, Any] = {"id": "shop", "provider": "custom", "providerSettings": SETTINGS}


async def refused(api: Api, method: str, path: str, body: Any) -> list[str]:
    """The fields that a refusal names."""
    answer = await api(method, path, body)
    assert answer.status_code == 422, answer.text
    return [error["pointer"] for error in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("provider", "settings", "pointer"),
    [
        ("custom", {**SETTINGS, "baseUrl": "ftp://x"}, "/providerSettings/baseUrl"),
        ("custom", {**SETTINGS, "colour": 1}, "/providerSettings/colour"),
        ("custom", {}, "/providerSettings/requests"),
        ("github-pages", {"owner": "a", "repo": "b"}, "/providerSettings/mode"),
        ("internal", {"x": 1}, "/providerSettings/x"),
        ("vercel", {"projectId": "x"}, "/providerSettings/gitSource"),
    ],
)
async def test_a_project_whose_settings_cannot_work_is_not_made(
    api: Api, provider: str, settings: dict[str, Any], pointer: str
) -> None:
    body = {"id": "shop", "provider": provider, "providerSettings": settings}

    assert pointer in await refused(api, "POST", "/v1/projects", body)
    assert (await api("GET", "/v1/projects/shop")).status_code == 404


async def test_settings_are_checked_as_they_will_be(api: Api) -> None:
    made = await api.make("/v1/projects", PROJECT)
    wrong = {**SETTINGS, "words": {"done": "built"}}

    assert await refused(api, "PATCH", "/v1/projects/shop", {"providerSettings": wrong}) == [
        "/providerSettings/words",
        "/providerSettings/words",
    ]
    for change in ({"name": "Shop"}, {"repositoryUrl": None}, {"providerSettings": None}):
        answer = await api("PATCH", "/v1/projects/shop", change)
        assert answer.status_code == 200, answer.text
        assert answer.json()["providerSettings"] == made["providerSettings"] == SETTINGS


async def test_an_internal_project_may_be_saved_before_it_has_a_repository(api: Api) -> None:
    await api.make("/v1/projects", {"id": "site", "provider": "internal"})

    assert (await api("PATCH", "/v1/projects/site", {"repositoryUrl": None})).status_code == 200
    assert await refused(api, "PATCH", "/v1/projects/site", {"providerSettings": {"a": 1}}) == ["/providerSettings/a"]


async def test_providers_are_listed_with_what_they_can_do_at_best(api: Api) -> None:
    listed = {one["name"]: one["capabilities"] for one in (await api("GET", "/v1/providers")).json()["items"]}

    assert list(listed) == sorted(listed)
    assert listed["custom"] == ["cancel", "liveLogs", "repoint"]
    document = (await api.client.get("/openapi.json")).json()
    assert document["components"]["schemas"]["CreateProjectRequest"]["properties"]["provider"]["enum"] == list(listed)
