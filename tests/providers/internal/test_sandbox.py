"""What a build can see and write, and what its environment holds."""

from pathlib import Path
from typing import Any

import pytest

from domain.ids import uuid7
from providers.internal.provider import Internal
from providers.internal.sandbox import find_bubblewrap
from tests.providers.conftest import ANY_REQUEST, MakeInternal, MakeRepository, build, build_request
from tests.providers.internal.processes import appears


async def say(internal: Internal, url: str, command: str, **options: Any) -> list[str]:
    """What a build's command says."""
    request = build_request(url, build_command=f"echo BEGIN; {command}; echo END", output_directory=".", **options)
    _, last, messages = await build(internal, request)
    assert last.stage == "built", messages
    return messages[messages.index("BEGIN") + 1 : messages.index("END")]


@pytest.fixture
def url(repository: MakeRepository) -> str:
    return repository({"index.html": "hello"}).url


def test_this_machine_can_make_sandboxes() -> None:
    """Else the tests here prove nothing."""
    assert find_bubblewrap()


async def test_a_build_sees_its_own_workspace_and_cache_and_nothing_else_of_ours(
    internal: Internal, url: str, tmp_path: Path
) -> None:
    (tmp_path / "foreign").write_text("secret")
    await build(internal, build_request(url, project="other"))

    seen = await say(
        internal, url, f"find {internal.root} -maxdepth 2 | sort; cat {tmp_path}/foreign /etc/shadow || true"
    )

    paths = [line.removeprefix(str(internal.root)) for line in seen if line.startswith(str(internal.root))]
    assert [path for path in paths if path.count("/") == 2] == ["/builds/" + paths[2].split("/")[2], "/cache/shop"]
    assert not any("releases" in path or "sites" in path for path in paths)
    assert sum("No such file" in line for line in seen) == 2


async def test_nothing_outside_can_be_written(internal: Internal, url: str) -> None:
    seen = await say(
        internal, url, "for d in / /usr /etc /dev /root; do touch $d/x && echo WROTE $d; done; touch /tmp/x ~/x x"
    )

    assert not any(line.startswith("WROTE") for line in seen)
    assert len(seen) == 5


async def test_a_build_sees_no_process_but_its_own(internal: Internal, url: str) -> None:
    seen = await say(internal, url, "ls /proc | grep -c '^[0-9]'; id -u; id -un; hostname")

    assert int(seen[0]) < 6
    assert seen[1:] == ["1000", "build", "build"]


async def test_the_workers_environment_does_not_leak(
    make_internal: MakeInternal, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_SECRET_KEYS", "canary-value")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-value")

    sandboxed = await say(make_internal(), url, "env; cat /proc/*/environ | tr '\\0' '\\n'")
    bare = await say(make_internal(bubblewrap=False), url, "env")

    assert not any("canary-value" in line for line in [*sandboxed, *bare])
    assert "CI=true" in sandboxed
    assert "CI=true" in bare


async def test_the_configurations_variables_and_secrets_are_there(internal: Internal, url: str) -> None:
    seen = await say(
        internal,
        url,
        "env",
        environment_variables={"GREETING": "hello there", "CI": "no"},
        secrets={"API_KEY": "xyz", "GIT_TOKEN": "for-the-server"},
    )

    assert {
        "GREETING=hello there",
        "CI=no",
        "API_KEY=xyz",
        "HEADWAY_ENVIRONMENT=production",
        "HEADWAY_REF=main",
    } <= set(seen)
    assert not any(line.startswith("GIT_TOKEN") for line in seen)


async def test_a_users_variables_do_not_reach_the_program_that_makes_the_sandbox(
    internal: Internal, url: str, tmp_path: Path
) -> None:
    """LD_PRELOAD in bwrap's own environment would run the user's code outside."""
    variables = {"LD_PRELOAD": f"{tmp_path}/evil.so", "PASS_PHRASE": "open-sesame"}
    command = f"sleep 600; echo {uuid7()}"
    started = await internal.start_build(build_request(url, build_command=command, environment_variables=variables))
    pids = await appears(command)
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
    environments = b"".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in pids if b"--args" in lines[pid])
    await internal.cancel_build(ANY_REQUEST, started)

    assert b"PATH=" in environments
    assert b"LD_PRELOAD" not in environments
    assert b"open-sesame" not in b"".join(lines.values())


async def test_it_is_said_when_there_is_no_sandbox(make_internal: MakeInternal, url: str) -> None:
    _, _, without = await build(make_internal(bubblewrap=False), build_request(url))
    _, _, with_it = await build(make_internal(), build_request(url))

    assert any("bubblewrap is not used" in line for line in without)
    assert not any("bubblewrap" in line for line in with_it)


async def test_the_operators_variables_and_tools_are_there(
    make_internal: MakeInternal, url: str, tmp_path: Path
) -> None:
    tool = tmp_path / "tools" / "greet"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho greetings\n")
    tool.chmod(0o755)
    internal = make_internal(tools=[tool.parent], environment={"PIP_INDEX_URL": "http://mirror"})

    assert await say(internal, url, "greet; echo $PIP_INDEX_URL") == ["greetings", "http://mirror"]
