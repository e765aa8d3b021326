"""Where the client finds the service."""

import json
from pathlib import Path

import pytest

from client.discovery import Service, find_service
from domain.errors import DeploymentError, ErrorCode


def stack_in(directory: Path) -> None:
    home = directory / ".headway"
    home.mkdir(parents=True)
    said = {"apiUrl": f"http://{directory.name}", "apiToken": "hw_local"}
    (home / "stack.json").write_text(json.dumps(said))


def test_the_nearest_stack_upwards_is_found(tmp_path: Path) -> None:
    stack_in(tmp_path)
    stack_in(tmp_path / "near")
    below = tmp_path / "near" / "a" / "b"
    below.mkdir(parents=True)
    assert find_service({}, below) == Service("http://near", "hw_local")


def test_the_environment_wins_over_a_local_stack(tmp_path: Path) -> None:
    stack_in(tmp_path)
    said = {"HEADWAY_API_URL": "https://headway.example.org", "HEADWAY_TOKEN": "hw_mine"}
    assert find_service(said, tmp_path) == Service("https://headway.example.org", "hw_mine")


def test_an_address_without_a_token_is_refused_rather_than_guessed(tmp_path: Path) -> None:
    stack_in(tmp_path)
    with pytest.raises(DeploymentError, match="HEADWAY_TOKEN") as refused:
        find_service({"HEADWAY_API_URL": "https://headway.example.org"}, tmp_path)
    assert refused.value.code is ErrorCode.UNAUTHENTICATED


def test_without_any_service_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="headway up"):
        find_service({}, tmp_path)


def test_a_broken_stack_file_is_named(tmp_path: Path) -> None:
    stack_in(tmp_path)
    (tmp_path / ".headway" / "stack.json").write_text("{")
    with pytest.raises(DeploymentError, match=r"stack\.json"):
        find_service({}, tmp_path)


def test_a_token_does_not_show_where_a_service_is_printed() -> None:
    assert "hw_mine" not in repr(Service("https://headway.example.org", "hw_mine"))
