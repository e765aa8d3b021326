"""Documents say what the code does: what they name exists, what they draw is current, what they list is complete."""

import functools
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.main import get_command

import cli  # noqa: F401  # adds the commands that start things here
from api.app import create_app
from client.cli import app
from settings import Settings
from tests.conftest import SECRET_KEYS
from tests.drawings import ROOT, documents, redrawn
from workflows import search

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#]*)(?:#([^)]*))?\)")
_ROUTE = re.compile(r"(?:`|\b(GET|POST|PATCH|DELETE) |\$(?:API|\{API\}))(/(?:v1|healthz|readyz|metrics)\b[\w/{}.-]*)")
_ROW = re.compile(r"^\| (.+?) \| (.*?) \|", re.MULTILINE)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def rows(path: str) -> dict[str, str]:
    """First and second cell of each row of a document's tables; where a first cell comes again, its first row."""
    found = reversed(_ROW.findall((ROOT / path).read_text()))
    return {name.strip("`"): said.strip("`") for name, said in found}


@pytest.mark.parametrize("path", documents(), ids=named)
def test_what_is_drawn_from_the_code_is_current(path: Path) -> None:
    text = path.read_text()
    assert text == redrawn(text), "draw it anew: python -m tests.drawings"


@pytest.mark.parametrize("name", ["README.md", "docs/states.md"])
def test_the_state_diagram_is_shown(name: str) -> None:
    assert "stateDiagram-v2" in (ROOT / name).read_text()


@pytest.mark.parametrize("path", documents(), ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in _LINK.findall(path.read_text()):
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), f"{target} is not there"
        if anchor:
            assert anchor in {_anchor(line) for line in there.read_text().splitlines() if line.startswith("#")}


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-")


@pytest.mark.parametrize("path", DECISIONS, ids=named)
def test_a_decision_is_short_and_has_its_three_parts(path: Path) -> None:
    text = path.read_text()
    assert len([line for line in text.splitlines() if not line.startswith("|")]) <= 40
    if "| library |" not in text:
        assert re.findall(r"^## (\w+)", text, re.MULTILINE) == ["Context", "Decision", "Consequence"]


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_every_library_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[\[;<>=! ]", entry)[0] for entry in project["dependencies"]}
    assert set(rows("docs/decisions/0006-libraries.md")) - {"library"} == wanted


def test_the_table_of_settings_has_every_setting_with_its_default() -> None:
    wanted = {f"HEADWAY_{name.upper()}": _default(name) for name in Settings.model_fields}
    shown = {name: said for name, said in rows("docs/operations.md").items() if name in wanted}
    assert shown == wanted


def _default(name: str) -> str:
    field = Settings.model_fields[name]
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, frozenset):
        return ",".join(sorted(default, reverse=True))
    if default is None or default == {}:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_search_attributes_are_those_of_the_workflow() -> None:
    shown = {name for name in rows("docs/operations.md") if re.fullmatch(r"Headway[A-Z]\w+", name)}
    assert shown == {attribute.name for attribute in search.ALL}


@pytest.mark.parametrize("path", documents(), ids=named)
def test_every_route_that_is_named_is_there(path: Path) -> None:
    routes = _routes()
    for method, address in _ROUTE.findall(path.read_text()):
        fitting = [methods for route, methods in routes if route.fullmatch(address.rstrip("."))]
        assert fitting, f"{address} is no route"
        assert not method or any(method in methods for methods in fitting), f"{address} takes no {method}"


@functools.cache
def _routes() -> list[tuple[re.Pattern[str], set[str]]]:
    settings = Settings(
        database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none"), secret_keys=SecretStr(SECRET_KEYS)
    )
    described: dict[str, dict[str, Any]] = create_app(settings).openapi()["paths"]
    patterns = {address: re.compile(re.sub(r"\{\w+\}", r"[^/]+", address)) for address in described}
    return [(patterns[address], {method.upper() for method in methods}) for address, methods in described.items()]


@pytest.mark.parametrize("path", documents(), ids=named)
def test_every_command_that_is_named_is_there(path: Path) -> None:
    for line in re.findall(r"(?:\.venv/bin/|`)headway ([^`\n#]+)", path.read_text()):
        command: Any = get_command(app)
        words = shlex.split(line)
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, f"headway {line}: no such command"
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, f"headway {line}: no such option"


@pytest.mark.parametrize("path", documents(), ids=named)
def test_every_make_target_that_is_named_is_there(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)(?=[`\n ]*(?:`|#|$))", path.read_text(), re.MULTILINE)) <= targets


@pytest.mark.parametrize("path", documents(), ids=named)
def test_every_file_that_is_named_is_there(path: Path) -> None:
    ours = "activities|api|client|domain|examples|ops|providers|store|tests|workflows"
    for name in re.findall(rf"`((?:{ours})/[\w/.-]+\.\w+)`", path.read_text()):
        assert (ROOT / name).exists() or "NNNN" in name or "acme" in name, f"{name} is not there"
