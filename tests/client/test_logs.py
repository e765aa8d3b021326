"""Logs by the client and on the command line: found, followed, and harmless to a terminal."""

import asyncio
import os
import pty
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from client.client import DeploymentsClient
from client.log_commands import _moment
from domain.deployment import Deployment
from domain.log import LogBatch, LogFilter, LogLevel, LogLine
from domain.project import Project
from domain.states import Status
from tests.client.commands import ROOT, Headway
from tests.client.conftest import Service

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b2K\x1b[31mred\x1b[0m [bold]no markup[/] \x1b]52;c;aGk=\x07\u202e\x08\x1b[6n end"


@pytest.fixture
async def log(service: Service, deployment: Deployment) -> Deployment:
    """Of an ended deployment: nine lines, three of each step, the last of each an error."""
    steps = ("install", "build", "publish")
    lines = [
        LogLine(
            timestamp=datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC),
            message=f"{steps[(number - 1) // 3]} line {number}",
            step=steps[(number - 1) // 3],
            level=LogLevel.INFO if number % 3 else LogLevel.ERROR,
        )
        for number in range(1, 10)
    ]
    await service.logs.append(deployment.id, LogBatch(stream="build", after="", cursor="9", lines=lines))
    await service.end(deployment, Status.FAILED)
    return deployment


async def test_lines_are_found_however_often_the_service_runs_out_of_time(
    client: DeploymentsClient, log: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.log_match.Budget.spent", True)
    wanted = LogFilter(query="line [369]", regex=True)
    assert [line.id for line in await client.get_logs(log.id, wanted)] == ["3", "6", "9"]
    assert [line.id for line in await client.get_logs(log.id, wanted, limit=2)] == ["3", "6"]
    matches = [match async for match in client.search_logs("site", wanted, context=1)]
    assert [([line.id for line in one.before], one.id, [line.id for line in one.after]) for one in matches] == [
        (["2"], "3", ["4"]),
        (["5"], "6", ["7"]),
        (["8"], "9", []),
    ]
    assert [one.id async for one in client.search_logs("site", wanted, limit=2)] == ["3", "6"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--grep", "LINE [12]$"), ["1", "2"]),
        (("--grep", "LINE", "--case-sensitive"), []),
        (("--level", "error", "--step", "build"), ["6"]),
        (("--since", "2026-01-01T00:00:08Z"), ["8", "9"]),
        (("--since", "1d"), []),
        (("--tail", "2", "--grep", "install"), ["2", "3"]),
        (("--follow", "--level", "error"), ["3", "6", "9"]),
    ],
)
async def test_a_log_shows_the_lines_that_were_asked_for(
    headway: Headway, log: Deployment, options: tuple[str, ...], expected: list[str]
) -> None:
    ended = await headway("logs", log.id, *options)
    assert (ended.code, ended.errors) == (0, "")
    assert [line.split()[-1] for line in ended.output.splitlines()] == expected


async def test_a_log_as_text_has_times_and_levels(headway: Headway, log: Deployment) -> None:
    ended = await headway("logs", "--text", "--tail", "1", log.id)
    assert ended.output == "2026-01-01T00:00:09.000Z error [publish] publish line 9\n"


async def test_a_search_shows_matches_among_their_lines(headway: Headway, log: Deployment, site: Project) -> None:
    ended = await headway("logs", "search", "site", "line [258]", "--regex", "--context", "1", "--level", "info")
    assert [re.sub(r"^ *", "", line) for line in ended.output.splitlines()] == [
        f"deployment {log.id}",
        *("1- install line 1", "2: install line 2", "3- install line 3"),
        *("4- build line 4", "5: build line 5", "6- build line 6"),
        *("7- publish line 7", "8: publish line 8", "9- publish line 9"),
    ]
    found = (await headway("logs", "search", "site", "line 4", "-C", "2", "--json")).document
    assert [[line["id"] for line in match["before"]] for match in found] == [["2", "3"]]
    assert (await headway("logs", "search", "site", "line 4", "--limit", "1", "--since", "2h")).output == ""


async def test_what_a_line_holds_never_acts_on_a_terminal(
    service: Service, deployment: Deployment, headway: Headway, tmp_path: Path
) -> None:
    await service.say(deployment, HOSTILE)
    await service.end(deployment, Status.FAILED)
    shown = "red [bold]no markup[/]  end"
    piped = await headway("logs", deployment.id)
    assert piped.output == f"   build {shown}\n"
    assert (await headway("logs", deployment.id, "--text")).output.endswith(f"[build] {shown}\n")
    screen = await on_a_terminal("logs", deployment.id, service=service, directory=tmp_path)
    assert "\x1b[31mred" in screen
    assert "── build ──" in screen
    codes = re.findall(r"\x1b.[0-9;]*.?", screen)
    assert all(re.fullmatch(r"\x1b\[[0-9;]*m", code) for code in codes), codes
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1a\x7f-\x9f\u202e]", screen)


async def on_a_terminal(*arguments: str, service: Service, directory: Path) -> str:
    """What the command writes there."""
    screen, terminal = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *arguments),
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **service.known},
        stdout=terminal,
    )
    os.close(terminal)
    written = b""
    try:
        while chunk := await asyncio.to_thread(os.read, screen, 65_536):
            written += chunk
    except OSError:  # nobody holds the other end any more
        pass
    finally:
        os.close(screen)
    assert await process.wait() == 0
    return written.decode()


@pytest.mark.parametrize(("said", "ago"), [("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86_400)])
def test_a_time_may_be_said_by_how_long_ago_it_was(said: str, ago: int) -> None:
    assert abs(datetime.now(UTC) - timedelta(seconds=ago) - _moment(said)) < timedelta(minutes=1)


def test_a_time_that_cannot_be_read_is_refused() -> None:
    assert _moment("2026-11-23T08:30:00+01:00") == datetime(2026, 11, 23, 7, 30, tzinfo=UTC)
    for said in ("yesterday", "10", "-5m", "99999999d", "0001-01-01T00:00:00+23:00"):
        with pytest.raises(typer.BadParameter):
            _moment(said)
