"""A build's life and death: nothing of it outlives it, whatever is killed, and it outlives its worker."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from domain.errors import ErrorCode
from domain.log_text import readable
from providers.base import Build
from providers.internal.builds import BuildDirectory
from providers.internal.limits import MIB, Limits
from providers.internal.provider import Internal
from tests.providers.conftest import ANY_REQUEST, MakeInternal, MakeRepository, build, build_request, follow
from tests.providers.internal.processes import appears, is_gone, running

_numbers = itertools.count(70001)
DAEMON = "(setsid env -i sleep {n} > /dev/null 2>&1 < /dev/null &)"
"""Leaves its parent, its session, its pipes and its variables."""


@pytest.fixture
def n() -> int:
    """Seconds to sleep that no other process sleeps."""
    return os.getpid() * 100_000 + next(_numbers)


@pytest.fixture(params=[True, False], ids=["bubblewrap", "without"])
def internal(request: pytest.FixtureRequest, make_internal: MakeInternal) -> Internal:
    return make_internal(bubblewrap=request.param)


def directory_of(internal: Internal, started: Build) -> BuildDirectory:
    return BuildDirectory(internal.root / "builds" / started.deployment_id)


async def test_a_killed_supervisor_leaves_no_process_and_a_failed_build(
    internal: Internal, repository: MakeRepository, n: int
) -> None:
    command = f"{DAEMON.format(n=n)}; sleep {n}"
    started = await internal.start_build(build_request(repository({"a": ""}).url, build_command=command))
    await appears(f"sleep {n}")
    state = directory_of(internal, started).state()
    assert state is not None

    os.kill(state.pid, signal.SIGKILL)
    last = (await follow(internal, started))[-1]

    assert await is_gone(f"sleep {n}")
    assert last.stage == "failed"
    assert last.failure is not None
    assert last.failure.retryable


async def test_cancel_ends_daemons_too_within_two_seconds(
    internal: Internal, repository: MakeRepository, n: int
) -> None:
    command = f"{DAEMON.format(n=n)}; sleep {n}"
    started = await internal.start_build(build_request(repository({"a": ""}).url, build_command=command))
    await appears(f"sleep {n}")

    async with asyncio.timeout(2):
        await internal.cancel_build(ANY_REQUEST, started)

    assert running(f"sleep {n}") == []
    last = (await follow(internal, started))[-1]
    assert (last.stage, last.failure and last.failure.code) == ("canceled", ErrorCode.CANCELED)


async def test_a_step_that_ends_takes_its_daemons_along(internal: Internal, repository: MakeRepository, n: int) -> None:
    _, last, _ = await build(
        internal, build_request(repository({"a": ""}).url, build_command=DAEMON.format(n=n) + f"; sleep {n} &")
    )

    assert last.stage == "built"
    assert running(f"sleep {n}") == []


async def test_the_deadline_ends_the_build_as_timeout(internal: Internal, repository: MakeRepository, n: int) -> None:
    request = build_request(repository({"a": ""}).url, build_command=f"sleep {n}", seconds=1.5)

    _, last, _ = await build(internal, request)

    assert (last.stage, last.failure and last.failure.code) == ("timeout", ErrorCode.TIMEOUT)
    assert running(f"sleep {n}") == []


async def test_a_supervisor_that_does_not_listen_is_killed(
    make_internal: MakeInternal, repository: MakeRepository, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers.internal.provider._CANCEL_SECONDS", 0.5)
    internal = make_internal()
    started = await internal.start_build(build_request(repository({"a": ""}).url, build_command=f"sleep {n}"))
    await appears(f"sleep {n}")
    state = directory_of(internal, started).state()
    assert state is not None
    os.kill(state.pid, signal.SIGSTOP)

    await internal.cancel_build(ANY_REQUEST, started)

    assert await is_gone(f"sleep {n}")
    assert (await follow(internal, started))[-1].stage == "canceled"


async def test_a_build_outlives_its_worker_and_another_one_reads_on(
    make_internal: MakeInternal, repository: MakeRepository, n: int, tmp_path: Path
) -> None:
    internal = make_internal()
    gate = f"for i in 1 2 3; do echo line $i; done; while [ ! -e go{n} ]; do sleep 0.05; done; echo done"
    request = build_request(repository({"a": ""}).url, build_command=gate)
    spec = tmp_path / "request.json"
    spec.write_text(request.model_dump_json())
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(internal.root), str(spec)],
        start_new_session=True,
        cwd=Path(__file__).parents[3],
    )
    directory = BuildDirectory(internal.root / "builds" / request.deployment_id)
    await appears(f"go{n}")

    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    (directory.workspace / f"go{n}").touch()
    started = await internal.start_build(request)
    news = await follow(internal, started)

    messages = [line.message for part in news for line in part.lines]
    assert [m for m in messages if m.startswith("line") or m == "done"] == ["line 1", "line 2", "line 3", "done"]
    assert news[-1].stage == "built"


WORKER = """
import asyncio, sys
from pathlib import Path
from providers.base import BuildRequest
from providers.internal.edge import Edge
from providers.internal.provider import Internal

async def work():
    edge = Edge("http://127.0.0.1:9", "http://127.0.0.1:9")
    internal = Internal(Path(sys.argv[1]), edge, task_queue="q", allow_private_addresses=True)
    build = await internal.start_build(BuildRequest.model_validate_json(Path(sys.argv[2]).read_bytes()))
    async for _ in internal.follow_build(ANY_REQUEST, build, ""):
        pass

asyncio.run(work())
"""


async def test_many_starts_at_once_are_one_build(make_internal: MakeInternal, repository: MakeRepository) -> None:
    request = build_request(repository({"a": ""}).url, build_command="echo once")

    builds = await asyncio.gather(*(make_internal().start_build(request) for _ in range(6)))
    messages = [line.message for part in await follow(make_internal(), builds[0]) for line in part.lines]

    assert all(found == builds[0] for found in builds)
    assert messages.count("once") == 1


async def test_a_start_that_died_before_the_supervisor_began_is_made_up_for(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    internal = make_internal()
    request = build_request(repository({"a": ""}).url, build_command="echo once")
    directory = BuildDirectory(internal.root / "builds" / request.deployment_id)
    directory.create(request)

    _, last, messages = await build(internal, request)

    assert last.stage == "built"
    assert messages.count("once") == 1


async def test_a_failing_step_is_named_with_its_code_and_its_last_lines(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    command = "seq 1 100; echo 'Error: no such page' >&2; exit 7"
    request = build_request(repository({"a": ""}).url, build_command=command)

    _, last, _ = await build(make_internal(), request)

    assert last.failure is not None
    assert last.failure.code == ErrorCode.BUILD_FAILED
    assert last.failure.message == "step build ended with exit code 7"
    assert (last.failure.phase, last.failure.exit_code) == ("build", 7)
    assert last.failure.log_excerpt == [*map(str, range(82, 101)), "Error: no such page"]


async def test_install_and_build_are_steps_of_their_own(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    request = build_request(repository({"a": ""}).url, install_command="echo one; exit 3", build_command="echo two")

    _, last, messages = await build(make_internal(), request)

    assert last.failure is not None
    assert (last.failure.phase, last.failure.exit_code) == ("install", 3)
    assert "two" not in messages


HUNGRY = "python3 -c 'import time; a = [bytearray(50000000) for _ in range(3)]; time.sleep(60)'"


@pytest.mark.parametrize(
    ("limits", "command", "named"),
    [
        (
            {"memory_bytes": 200 * MIB},
            f"{HUNGRY} & {HUNGRY}",
            "bytes of memory",
        ),
        ({"processes": 30}, "for i in $(seq 60); do sleep 60 & done; wait", "processes"),
        ({"workspace_bytes": 5 * MIB}, "head -c 20000000 /dev/zero > big; sleep 60", "bytes on disk"),
        ({"output_bytes": MIB}, "head -c 2000000 /dev/zero > big", "bytes"),
        ({"output_files": 10}, "touch $(seq 20)", "files"),
    ],
)
async def test_a_limit_ends_the_build_and_is_named(
    make_internal: MakeInternal, repository: MakeRepository, limits: dict[str, int], command: str, named: str
) -> None:
    internal = make_internal(limits=Limits(**limits))

    _, last, _ = await build(internal, build_request(repository({"a": ""}).url, build_command=command))

    assert last.failure is not None
    assert last.failure.code == ErrorCode.BUILD_FAILED
    assert named in last.failure.message
    assert list(internal.root.glob("releases/.*")) == []


async def test_a_single_file_and_a_single_process_have_limits(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    internal = make_internal(limits=Limits(file_bytes=MIB, memory_bytes=500 * MIB))
    command = "head -c 3000000 /dev/zero > big || true; python3 -c 'bytearray(800000000)' || echo refused; wc -c < big"

    _, _, messages = await build(internal, build_request(repository({"a": ""}).url, build_command=command))

    assert "refused" in messages
    assert str(MIB) in messages


async def test_secrets_are_neither_on_disk_nor_in_the_log_nor_in_a_command_line(
    make_internal: MakeInternal, repository: MakeRepository, n: int
) -> None:
    internal = make_internal()
    secrets = {"DB_PASSWORD": "correct-horse", "KEY": "first-line\nsecond-line"}
    command = f'echo "$DB_PASSWORD"; echo "$KEY"; sleep {n}'
    request = build_request(repository({"a": ""}).url, build_command=command, secrets=secrets)
    started = await internal.start_build(request)
    await appears(f"sleep {n}")

    kept = b"".join(
        path.read_bytes() for path in internal.root.rglob("*") if path.is_file() and ".git" not in path.parts
    )
    lines = running("correct-horse")
    await internal.cancel_build(ANY_REQUEST, started)
    news = await follow(internal, started)

    assert b"correct-horse" not in kept
    assert b"second-line" not in kept
    assert lines == []
    assert [line.message for part in news for line in part.lines].count("***") == 3


async def test_a_log_beyond_its_budget_keeps_beginning_and_end_and_counts_the_rest(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    internal = make_internal(limits=Limits(log_bytes=50_000))

    _, last, messages = await build(
        internal, build_request(repository({"a": ""}).url, build_command="seq 1 20000", output_directory=".")
    )

    at = next(n for n, message in enumerate(messages) if "lines are missing here" in message)
    missing = int(messages[at].split()[1])
    numbers = [int(message) for message in messages if message.isdecimal()]
    assert last.stage == "built"
    assert numbers[0] == 1
    assert numbers[-1] == 20000
    assert missing + len(numbers) == 20000
    assert sum(map(len, messages)) <= 50_000


ODD = r"""
printf 'nul\000 bad\377 \303\251\r\n'
printf '10%%\r50%%\r100%%\n'
printf '\033[31mred\033[0m \033]8;;javascript:alert(1)\007link\033]8;;\007\033[2J\n'
printf 'bell\007 \342\200\256bidi\n'
head -c 3000000 /dev/zero | tr '\0' x; echo
printf '::add-mask::hunter2-hunter2\nhunter2-hunter2\n'
head -c 200000 /dev/urandom; echo
printf 'no end'
"""


async def test_odd_bytes_are_stored_readably_and_fail_nothing(internal: Internal, repository: MakeRepository) -> None:
    _, last, messages = await build(internal, build_request(repository({"a": ODD}).url, build_command="sh a"))

    assert last.stage == "built"
    begin = messages.index("nul bad\ufffd é")
    assert messages[begin + 1 : begin + 4] == ["100%", "\x1b[31mred\x1b[0m link", "bell bidi"]
    assert messages[begin + 4] == "x" * 65536 + f" … [{3_000_000 - 65536} bytes of this line cut]"
    assert messages[begin + 5 : begin + 7] == ["::add-mask::***", "***"]
    assert messages[-2] == "no end"
    assert all(readable(message) == message for message in messages)


async def test_stages_and_the_commit_are_told(make_internal: MakeInternal, repository: MakeRepository) -> None:
    source = repository({"index.html": "hello"})
    commit = source.commit({"index.html": "new"}, "Say it anew\n\nBecause.")
    internal = make_internal()

    started = await internal.start_build(build_request(source.url))
    news = await follow(internal, started)

    stages = [part.stage for part in news]
    assert stages == sorted(stages, key=["initializing", "building", "built"].index)
    told = news[-1].repository
    assert told is not None
    assert (told.commit, told.author, told.message) == (commit, "Ada", "Say it anew\n\nBecause.")
    assert {line.step for part in news for line in part.lines} == {"clone", "install", "build"}


async def test_figures_of_output_tests_and_coverage_are_reported(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    files = {
        "index.html": "hello",
        "junit.xml": '<testsuite><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>',
        "coverage/lcov.info": "SF:a.js\nLF:4\nLH:3\nend_of_record\n",
        "evil-junit.xml": '<!DOCTYPE x [<!ENTITY a "b">]><testsuite><testcase name="&a;"/></testsuite>',
    }
    internal = make_internal()

    started, last, _ = await build(internal, build_request(repository(files).url))
    report = await internal.collect_report(ANY_REQUEST, started)

    assert last.stage == "built"
    assert (report.metrics.tests_passed, report.metrics.tests_failed, report.metrics.coverage) == (1, 1, 75.0)
    assert (report.metrics.file_count, report.framework) == (4, "static")
    assert report.artifact_id is not None
    assert report.metrics.build_time > 0
    assert any("evil-junit.xml" in warning.message for warning in report.warnings)


async def test_a_build_that_went_well_leaves_no_workspace_and_a_failed_one_does(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    internal = make_internal()
    url = repository({"index.html": "hello"}).url

    well, _, _ = await build(internal, build_request(url))
    failed, _, _ = await build(internal, build_request(url, build_command="exit 1"))
    while directory_of(internal, well).supervised():
        await asyncio.sleep(0.01)

    assert not directory_of(internal, well).workspace.exists()
    assert directory_of(internal, failed).workspace.exists()


async def test_the_specification_on_disk_has_no_credentials(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    internal = make_internal()
    url = repository({"index.html": "hello"}).url.replace("http://", "http://ada:pass-word@")

    started, last, messages = await build(internal, build_request(url))

    spec = json.loads(directory_of(internal, started).spec.read_text())
    assert last.stage == "built"
    assert "pass-word" not in spec["repositoryUrl"]
    assert not any("pass-word" in message for message in messages)
    assert last.repository is not None
    assert "pass-word" not in last.repository.url
