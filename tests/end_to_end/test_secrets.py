"""Forty secrets, printed by a real build in every spelling, are nowhere to be read afterwards: not where logs are kept,
not where they are read, not in what Temporal remembers, not in a process list."""

import asyncio
import contextlib
import random
import string
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import re2
import zstandard
from psycopg import sql

from client.client import DeploymentsClient
from domain.configuration import HIDDEN
from domain.deployment import Deployment
from domain.states import Status
from tests import spellings
from tests.end_to_end.conftest import MakeProject
from tests.end_to_end.test_main_job import deploy, end_of
from tests.spellings import SPELLINGS
from tests.test_stack import Up

BUILD = """
import os, sys, time
from spellings import SPELLINGS, in_base64

values = [value for name, value in sorted(os.environ.items()) if name.startswith("ONE_OF_FORTY_")]
for value in values:
    for name, spell in SPELLINGS.items():
        print(f"{name}: {spell(value)}")
        print(f"{name}, in colours:", chr(27) + "[32m" + (chr(27) + "[1m").join(spell(value)))
    print(value, file=sys.stderr, flush=True)
    for part in ("in two writes: ", value[:7], value[7:] + chr(10)):
        print(part, end="", flush=True)
        time.sleep(0.01)
    print("." * (64 * 1024 - len(value) // 2) + value)
    wrapped = in_base64("user:" + 3 * value)
    print(*(wrapped[start : start + 76] for start in range(0, len(wrapped), 76)), sep=chr(10))
made = values[0][::-1]
print("::add-mask::" + made)
print("made meanwhile:", made)
sys.exit("error: cannot log in as " + values[1] + " or as " + made)
"""

ZSTD = b"\x28\xb5\x2f\xfd"
"""What a frame of it begins with (RFC 8878)."""


def forty() -> list[str]:
    chance = random.SystemRandom()
    odd = string.ascii_letters + string.digits + " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~äß中😀"
    values = ["s" + "".join(chance.choices(odd, k=chance.randint(20, 60))) + "t" for _ in range(36)]
    lines = ["".join(chance.choices(string.ascii_letters + "+/", k=64)) for _ in range(40)]
    keys = [
        "\n".join(["-----BEGIN KEY-----", *lines[start : start + 10], "-----END KEY-----"]) for start in (0, 10, 20, 30)
    ]
    return values + keys


def needles(values: list[str]) -> Iterator[str]:
    """Of each spelling of each value and of its lines: its beginning, its middle and its end."""
    for text in {part for value in values for part in (value, *value.splitlines())}:
        for spell in SPELLINGS.values():
            spelled = spell(text)
            for start in (0, len(spelled) // 2 - 8, len(spelled) - 16):
                yield spelled[max(0, start) :][:16]


def search_for(values: list[str]) -> Any:
    """Quick, and not the mask's own way: each needle as it stands."""
    wanted = {needle.encode() for needle in needles(values) if "-----" not in needle}
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = 1 << 30
    return re2.compile(b"|".join(map(re2.escape, sorted(wanted))), options)


def command_lines() -> set[bytes]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.add((process / "cmdline").read_bytes())
    return found


async def everything_to_be_read(local: Up, deployment: Deployment) -> AsyncIterator[bytes]:
    headers = {"Authorization": f"Bearer {local.said['apiToken']}"}
    async with httpx.AsyncClient(base_url=local.said["apiUrl"], headers=headers, timeout=30) as api:
        own = deployment.links.self
        for path, accepted in (
            (f"{own}/logs", "text/plain"),
            (f"{own}/logs/stream?follow=false", "text/event-stream"),
            (f"{own}/logs/stream?follow=false", "application/x-ndjson"),
            (f"{own}/logs?limit=1000", "application/json"),
            (own, "application/json"),
            (f"{own}/result", "application/json"),
            (f"/v1/projects/{deployment.project_id}/deployments?includeLogs=true", "application/json"),
        ):
            answer = await api.get(path, headers={"Accept": accepted})
            assert answer.is_success, answer.text
            yield answer.content


def rows(database_url: str) -> Iterator[bytes]:
    """Every value of every table; what is compressed, as it was before."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        for (table,) in tables:
            for row in connection.execute(sql.SQL("select * from {}").format(sql.Identifier(table))):
                for value in row:
                    yield value if isinstance(value, bytes) else str(value).encode()
                    if isinstance(value, bytes) and value.startswith(ZSTD):
                        yield zstandard.ZstdDecompressor().decompress(value)


async def test_no_secret_is_to_be_read_anywhere(
    client: DeploymentsClient, local: Up, make_project: MakeProject
) -> None:
    values = forty()
    made = values[0][::-1]
    search = search_for([*values, made])
    assert search.search(f"so {values[3]}".encode())

    files = {"build.py": BUILD, "spellings.py": Path(spellings.__file__).read_text(), "build.sh": "python3 build.py"}
    project = await make_project(files, buildCommand="sh build.sh", outputDirectory="out")
    named = {f"ONE_OF_FORTY_{number:02}": value for number, value in enumerate(values)}
    ended = asyncio.create_task(end_of(client, await deploy(client, project, secrets=named)))
    seen: set[bytes] = set()
    while not ended.done():
        seen |= command_lines()
        await asyncio.sleep(0.05)
    done = await ended

    assert done.status is Status.FAILED
    assert done.error is not None
    assert "error: cannot log in as *** or as ***" in done.error.log_excerpt
    assert any(b"build.py" in line for line in seen)
    read = [answer async for answer in everything_to_be_read(local, done)]
    text = read[0].decode()
    assert text.count(HIDDEN) > len(values) * len(SPELLINGS) * 2
    assert "::add-mask::***" in text
    assert "made meanwhile: ***" in text
    for part in (*read, *seen, *rows(local.said["databaseUrl"])):
        assert found_in(part, search) is None
    for path in local.data_dir.rglob("*"):
        if path.is_file():
            assert found_in(path.read_bytes(), search) is None, path


def found_in(text: bytes, search: Any) -> bytes | None:
    """What stands there, and what stands around it."""
    found = search.search(text)
    return text[max(0, found.start() - 80) : found.end() + 80] if found else None
