"""`headway up` from outside: ready, watched, stopped, and alone on its directory."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

import stack
from tests.servers import PATIENCE_SECONDS, eventually

ROOT = Path(__file__).resolve().parents[1]
PARTS = {"postgres", "temporal", "edge", "api", "worker"}


class Up:
    """One `headway up` as a user starts it."""

    entry = "cli"
    """The module that is run."""

    def __init__(self, data_dir: Path, *more: str) -> None:
        self.data_dir = data_dir
        self._output = data_dir.with_name("output")
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.entry, "up", "--data-dir", str(data_dir), "--port", "0", *more],
                cwd=ROOT,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def said(self) -> dict[str, Any]:
        described: dict[str, Any] = json.loads((self.data_dir / "stack.json").read_text())
        return described

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.output()
        return (self.data_dir / "stack.json").exists()

    def output(self) -> str:
        return self._output.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """How many seconds it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        return time.monotonic() - began


def wait_for(condition: Any, seconds: float = PATIENCE_SECONDS) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.05)


def processes_of(data_dir: Path) -> list[str]:
    """Command lines of all processes that work in or on a data directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_text().replace("\0", " ")
            if str(data_dir) in line or os.readlink(process / "cwd").startswith(str(data_dir)):
                found.append(line)
        except OSError:
            continue  # it has ended meanwhile
    return found


@contextmanager
def up(data_dir: Path) -> Iterator[Up]:
    started = Up(data_dir)
    try:
        wait_for(started.is_ready)
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack") / "data"


@pytest.fixture(scope="module")
def local(data_dir: Path) -> Iterator[Up]:
    with up(data_dir) as started:
        yield started


def test_a_ready_stack_is_described_for_other_tools(local: Up) -> None:
    said = local.said
    assert set(said) == {
        *("apiUrl", "apiToken", "temporalAddress", "temporalNamespace", "temporalUiUrl"),
        *("databaseUrl", "edgeUrl", "pids"),
    }
    assert set(said["pids"]) == PARTS
    assert (local.data_dir / "stack.json").stat().st_mode & 0o777 == 0o600
    answer = httpx.get(f"{said['apiUrl']}/v1/projects", headers={"Authorization": f"Bearer {said['apiToken']}"})
    assert answer.status_code == 200
    assert httpx.get(said["temporalUiUrl"]).is_success
    assert httpx.get(said["edgeUrl"]).status_code == 404
    with psycopg.connect(said["databaseUrl"]) as connection:
        fsync = connection.execute("show fsync").fetchone()
    assert fsync == ("on",)


def test_api_and_worker_are_told_the_same_archive_of_logs(local: Up) -> None:
    archive = local.data_dir / "archive"
    assert archive.is_dir()
    for part in ("api", "worker"):
        environment = Path(f"/proc/{local.said['pids'][part]}/environ").read_bytes().split(b"\0")
        assert f"HEADWAY_LOG_ARCHIVE={archive}".encode() in environment


def test_search_attributes_are_registered(local: Up) -> None:
    program = Path(sys.executable).with_name("temporal")
    listed = subprocess.run(
        [program, "operator", "search-attribute", "list", "--address", local.said["temporalAddress"]],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    ours = {line.split()[0] for line in listed.splitlines() if line.strip().startswith("Headway")}
    assert ours == {f"Headway{name}" for name in ("Project", "Environment", "Provider", "Status", "Trigger")}


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_killed_part_comes_back_at_the_same_address(local: Up, part: str) -> None:
    before = local.said
    os.kill(before["pids"][part], signal.SIGKILL)
    wait_for(lambda: local.said["pids"][part] != before["pids"][part])

    def answers() -> bool:
        try:
            return httpx.get(f"{before['apiUrl']}/readyz").is_success
        except httpx.TransportError:
            return False

    wait_for(answers)
    assert {**local.said, "pids": None} == {**before, "pids": None}


async def test_a_part_that_hangs_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "CHECK_SECONDS", 0.5)
    (tmp_path / "logs").mkdir()
    port = stack.free_port()

    async def answers() -> bool:
        async with httpx.AsyncClient(timeout=0.4) as client:
            try:
                return (await client.get(f"http://127.0.0.1:{port}/")).is_success
            except httpx.TransportError:
                return False

    argv = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    keeper = stack.Keeper(stack.Part("web", argv, ready=answers), tmp_path, [], lambda _: None)
    await keeper.becomes_ready()
    assert keeper.process is not None
    hung = keeper.process
    hung.send_signal(signal.SIGSTOP)
    await eventually(lambda: _true(hung.returncode == -signal.SIGKILL))
    await eventually(answers)
    await keeper.stop()


async def _true(condition: bool) -> bool:
    return condition


def doctor(where: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "cli", "doctor", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, cwd=where, env=environment, capture_output=True, text=True, check=False)


def test_a_directory_that_the_edge_cannot_serve_from_is_refused_at_once(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "cli", "up", "--data-dir", str(tmp_path / "{a}")]
    said = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    assert said.returncode == 1
    assert "and without * ? [ ] { }" in said.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_a_doctor_finds_everything_well(local: Up) -> None:
    (local.data_dir.parent / ".headway").symlink_to(local.data_dir)
    found: list[Any] = []

    def well() -> bool:  # what was killed before may still be missed
        said = doctor(local.data_dir.parent)
        found.append((said.stdout, said.stderr))
        return said.returncode == 0

    wait_for(well)
    checkup = json.loads(found[-1][0])
    assert {part["problem"] for part in checkup["parts"]} == {None}
    names = {part["name"] for part in checkup["parts"]}
    assert names >= {"git", "database", "migrations", "secret keys", "temporal", "workers of headway"}
    assert checkup["round"]["findings"] == []


def test_a_doctor_who_finds_nobody_says_so_in_one_line(tmp_path: Path) -> None:
    said = doctor(tmp_path)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("headway: no service found")
    assert said.stderr.count("\n") == 1


def test_a_second_stack_on_the_same_directory_is_refused(local: Up) -> None:
    second = Up(local.data_dir)
    assert second.process.wait(20) == 2
    assert "in use by another stack" in second.output()
    assert local.is_ready()


def test_two_stacks_run_side_by_side_and_stop_without_a_trace(local: Up, tmp_path: Path) -> None:
    with up(tmp_path / "other") as other:
        assert other.said["apiUrl"] != local.said["apiUrl"]
        assert httpx.get(f"{local.said['apiUrl']}/readyz").is_success
        assert other.stop() < 10
        assert other.process.returncode == 0
        assert not (tmp_path / "other" / "stack.json").exists()
        assert processes_of(tmp_path / "other") == []
    assert httpx.get(f"{local.said['apiUrl']}/readyz").is_success


def test_parts_do_not_outlive_a_killed_stack_which_starts_again_with_its_token(data_dir: Path, local: Up) -> None:
    before = local.said
    local.process.kill()
    local.process.wait()
    wait_for(lambda: processes_of(data_dir) == [])
    (data_dir / "stack.json").unlink()
    with up(data_dir) as again:
        assert again.said["apiToken"] == before["apiToken"]
        assert again.said["apiUrl"] == before["apiUrl"]
        assert again.stop(signal.SIGINT) < 10
        assert again.process.returncode == 0


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused = Up(tmp_path / "data", "--port", str(port))
        assert refused.process.wait(20) == 1
    assert f"port {port} is taken" in refused.output()
