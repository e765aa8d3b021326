"""The audit: every change has its entry, nobody can change one, and whoever does so as a superuser is found out."""

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from importlib import resources
from typing import Any

import psycopg
import pytest

from domain.audit import AuditAnchor, AuditEntry, AuditFilter, AuditReport
from domain.configuration import ConfigurationChange
from domain.deployment import RetryRequest, RollbackRequest, TriggerDeploymentRequest
from domain.ending import Ending
from domain.errors import DeploymentError, ErrorCode
from domain.page import PageRequest
from domain.project import (
    CreateEnvironmentRequest,
    CreateProjectRequest,
    Project,
    UpdateEnvironmentRequest,
    UpdateProjectRequest,
)
from domain.protection import Protection
from domain.states import Status
from domain.token import CreateTokenRequest, Scope
from domain.webhook import Delivery, Push
from store import audit
from store.audit_reader import AuditReader
from store.database import Database, migrate
from store.deployments import DeploymentStore
from store.gate import GateStore
from store.limits import TriggerLimiter
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.pushes import PushStore
from store.seal import Sealer
from store.server import LocalPostgres
from store.tokens import TokenStore
from store.webhook_intake import Origin
from store.webhooks import WebhookStore
from tests.conftest import SECRET_KEYS
from tests.servers import eventually

DONE = Ending(status=Status.SUCCEEDED)
ENTRIES = 600
FIRST = 6
"""Of the three projects that are made before."""


@pytest.fixture
def reader(database: Database) -> AuditReader:
    return AuditReader(database)


async def entries(reader: AuditReader, **wanted: Any) -> list[AuditEntry]:
    """Oldest first."""
    return [entry async for batch in reader.export(AuditFilter(**wanted)) for entry in batch]


class Deeds:
    """All that can be done to a project."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self.projects = ProjectStore(database, sealer)
        self.deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 10_000))
        self.progress = ProgressStore(database, sealer)
        self.gate = GateStore(database)
        self.tokens = TokenStore(database, sealer)
        self.webhooks = WebhookStore(database, sealer)
        self.pushes = PushStore(database, self.deployments)

    async def trigger(self, actor: str = "ada", **more: Any) -> str:
        asked = {"project_id": "shop", "source_ref": "main", **more}
        request = TriggerDeploymentRequest.model_validate(asked)
        return (await self.deployments.trigger(request, actor)).answer.id

    async def end(self, deployment: str, ending: Ending = DONE) -> None:
        await self.gate.look(deployment)
        await self.progress.finish(deployment, ending)

    async def production(self) -> str:
        page = await self.projects.list_environments("shop", PageRequest())
        return page.items[0].id

    async def push(self, commit: str, before: str = "0" * 40) -> None:
        push = Push(
            repositories=["git.example.org/shop"], ref="refs/heads/main", before=before, after=commit, sender="ada"
        )
        delivery = Delivery(identity=commit, kind="push", push=push)
        await self.webhooks.receive(Origin("github", None, "shop"), delivery)


@pytest.fixture
def deeds(database: Database, sealer: Sealer, shop: Project) -> Deeds:
    return Deeds(database, sealer)


async def test_every_deed_has_its_entry(deeds: Deeds, reader: AuditReader) -> None:
    seen = 0

    async def recorded(**wanted: Any) -> list[tuple[str, str]]:
        """Who did what since this was asked last."""
        nonlocal seen
        there = await entries(reader)
        new, seen = there[seen:], len(there)
        return [(entry.actor, entry.action) for entry in new]

    assert await recorded() == [("ada", "project.create"), ("ada", "environment.create")]
    production = await deeds.production()
    await deeds.projects.update_project("shop", UpdateProjectRequest(concurrency="queue"), "ada")
    assert await recorded() == [("ada", "project.update")]
    staging = CreateEnvironmentRequest(name="staging", type="staging", is_default=True)
    await deeds.projects.create_environment("shop", staging, "ada")
    assert await recorded() == [("ada", "environment.update"), ("ada", "environment.create")]
    await deeds.projects.update_environment(production, UpdateEnvironmentRequest(is_default=True), "ada")
    assert await recorded() == [("ada", "environment.update"), ("ada", "environment.update")]

    first = await deeds.trigger()
    await deeds.end(first)
    assert await recorded() == [("ada", "deployment.trigger"), ("headway", "deployment.finish")]
    second = await deeds.trigger()
    await deeds.deployments.request_cancel(second, "bob")
    await deeds.deployments.request_cancel(second, "bob")
    await deeds.end(second, Ending(status=Status.CANCELED))
    assert (await recorded())[1:] == [("bob", "deployment.cancel"), ("headway", "deployment.finish")]
    third = (await deeds.deployments.retry(second, RetryRequest(), "bob")).answer.id
    await deeds.end(third)
    assert (await recorded())[0] == ("bob", "deployment.retry")

    back = (await deeds.deployments.rollback(third, RollbackRequest(), "ada")).answer.id
    assert await recorded() == [("ada", "deployment.rollback"), ("ada", "environment.hold")]
    await deeds.end(back)
    held = await deeds.trigger()
    await deeds.progress.pin_commit(held, "a" * 40)
    await deeds.gate.decide(held, "bob", "approve", "seen")
    assert await recorded() == [
        ("headway", "deployment.finish"),
        ("ada", "deployment.trigger"),
        ("headway", "deployment.pin"),
        ("bob", "deployment.approve"),
        ("bob", "environment.release"),
    ]
    for _ in range(2):
        await deeds.trigger(concurrency="supersede")
    assert [action for _, action in await recorded()] == [
        "deployment.trigger",
        "deployment.supersede",
        "deployment.trigger",
    ]
    protected = UpdateEnvironmentRequest(protection=Protection(required_approvals=1, approvers=["bob"]))
    await deeds.projects.update_environment(production, protected, "ada")
    await deeds.gate.decide(await deeds.trigger(), "bob", "reject", "no")
    await deeds.trigger(break_glass="the shop burns", force=True)
    assert await recorded() == [
        ("ada", "environment.update"),
        ("ada", "deployment.trigger"),
        ("bob", "deployment.reject"),
        ("ada", "deployment.trigger"),
        ("ada", "deployment.break-glass"),
    ]
    await deeds.projects.update_environment(production, UpdateEnvironmentRequest(held_ref="main"), "ada")
    await deeds.projects.update_environment(production, UpdateEnvironmentRequest(held_ref=None), "bob")
    assert (await recorded())[1:] == [("bob", "environment.update"), ("bob", "environment.release")]

    rules = UpdateProjectRequest.model_validate(
        {"pushRules": [{"branches": ["main"], "environment": "staging"}], "concurrency": "parallel"}
    )
    await deeds.projects.update_project("shop", rules, "ada")
    await deeds.push("b" * 40)
    await deeds.push("b" * 40)
    assert len(await deeds.pushes.trigger_due()) == 1
    assert (await recorded())[1:] == [("github:ada", "push.accept"), ("github:ada", "deployment.trigger")]

    made = await deeds.tokens.create(CreateTokenRequest(subject="ci", scopes=[Scope.READ], projects=["*"]), "ada")
    await deeds.tokens.revoke(made.answer.id, "ada")
    for _ in range(2):
        await deeds.tokens.ensure_first("hw_first")
    assert await recorded() == [("ada", "token.create"), ("ada", "token.revoke"), ("headway", "token.create")]
    report = await reader.verify(None)
    assert (report.valid, report.entries, [chain.project_id for chain in report.chains]) == (True, seen, [None, "shop"])


async def test_a_reason_is_kept_and_no_secret(deeds: Deeds, reader: AuditReader) -> None:
    secret = ConfigurationChange(secrets={"NPM_TOKEN": "a-new-secret"})
    await deeds.projects.update_project("shop", UpdateProjectRequest(configuration=secret), "ada")
    await deeds.trigger(break_glass="the shop burns", message="out with it")
    *_, triggered, glass = await entries(reader)
    assert (triggered.reason, glass.reason) == ("out with it", "the shop burns")
    text = "".join(entry.model_dump_json() for entry in await entries(reader))
    assert "a-new-secret" not in text
    assert "npm-secret" not in text


async def test_what_an_object_became_is_what_it_is_changed_from(deeds: Deeds, reader: AuditReader) -> None:
    await deeds.end(await deeds.trigger())
    for policy in ("queue", "reject", "queue"):
        await deeds.projects.update_project("shop", UpdateProjectRequest.model_validate({"concurrency": policy}), "ada")
    told = [(one.before, one.after) for one in await entries(reader) if one.target == "shop"]
    assert told[0][0] is None
    assert [before for before, _ in told[1:]] == [after for _, after in told[:-1]]
    assert len({after for _, after in told}) == len(told)


async def test_an_entry_says_which_token_and_which_request(deeds: Deeds, reader: AuditReader) -> None:
    with audit.asked_for("trace-1"):
        audit.note_token("token-1")
        await deeds.trigger()
        with audit.asked_for(None):
            await deeds.tokens.ensure_first("hw_first")
    await deeds.trigger(force=True)
    told = [(entry.request_id, entry.token_id) for entry in (await entries(reader))[-3:]]
    assert told == [("trace-1", "token-1"), (None, None), (None, None)]


async def test_what_is_rolled_back_leaves_no_entry_and_no_gap(deeds: Deeds, reader: AuditReader) -> None:
    await deeds.trigger()
    for _ in range(3):
        with pytest.raises(DeploymentError):
            await deeds.trigger()
    report = await reader.verify({"shop"})
    assert (report.valid, report.entries) == (True, 3)


@pytest.mark.parametrize("deed", ["update audit set actor = 'eve'", "delete from audit", "truncate audit"])
@pytest.mark.parametrize("role", ["origin", "replica"])
async def test_the_database_refuses_to_change_it(database: Database, shop: Project, deed: str, role: str) -> None:
    async with await psycopg.AsyncConnection.connect(database.url) as connection:
        await connection.execute(f"set session_replication_role = {role}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            await connection.execute(deed.encode())


class Tampered:
    """Entries in four chains, in more than one batch, for a superuser to tamper with; each time from the original."""

    def __init__(self, database: Database, reader: AuditReader) -> None:
        self.database = database
        self.reader = reader
        self.rows: list[dict[str, Any]] = []

    async def prepare(self) -> None:
        chance = random.Random(5)
        for number in range(ENTRIES - FIRST):
            async with self.database.transaction() as connection:
                project = chance.choice([None, "shop", "blog", "docs"])
                words: dict[str, Any] = {"ref": 'grüße/"ü"\n', "fields": ["a", "b"], "none": None, "n": number}
                reason = chance.choice([None, "weil\tes \\ so ist"])
                row = {"id": "x", "number": number}
                with audit.asked_for(chance.choice([None, "trace"])):
                    await audit.record(
                        connection, "ada", "thing.change", project, "x", reason=reason, before=row, after=row, **words
                    )
        await self.execute("alter table audit disable trigger all")
        await self.execute("alter table audit drop constraint audit_in_line, drop constraint audit_by_id")
        for table in ("audit", "projects", "audit_head"):
            await self.execute(f"create table {table}_was as select * from {table}")
        self.rows = await self.database.fetch_all("select *, details::text as told from audit")

    async def execute(self, statement: str, **parameters: Any) -> None:
        async with self.database.connection() as connection:
            await connection.execute(statement.encode(), parameters)

    async def restore(self) -> None:
        await self.execute("truncate audit")
        await self.execute("insert into audit select * from audit_was")
        await self.execute(
            "update projects set audit_sequence = was.audit_sequence, audit_hash = was.audit_hash"
            " from projects_was as was where was.id = projects.id"
        )
        await self.execute("delete from audit_head")
        await self.execute("insert into audit_head select * from audit_head_was")

    async def found(self, *anchors: AuditAnchor) -> AuditReport:
        """What verifying says; then all is as it was."""
        report = await self.reader.verify(None, anchors)
        await self.restore()
        return report

    async def set(self, row: dict[str, Any], column: str, value: Any, kind: str = "") -> None:
        changed = f"update audit set {column} = %(value)s{kind} where id = %(id)s"
        await self.execute(changed, value=value, id=row["id"])


@pytest.fixture(scope="module")
async def chains(postgres: LocalPostgres) -> AsyncIterator[Tampered]:
    async with await psycopg.AsyncConnection.connect(postgres.url("postgres"), autocommit=True) as connection:
        await connection.execute("create database many_entries template headway_template")
    async with Database(postgres.url("many_entries")) as database:
        projects = ProjectStore(database, Sealer(SECRET_KEYS))
        for name in ("shop", "blog", "docs"):
            await projects.create_project(CreateProjectRequest(id=name, provider="internal"), "ada")
        ready = Tampered(database, AuditReader(database))
        await ready.prepare()
        yield ready


@pytest.fixture
async def tampered(chains: Tampered) -> Tampered:
    """All is as it was."""
    await chains.restore()
    report = await chains.reader.verify(None)
    assert (report.valid, report.entries, len(report.chains)) == (True, ENTRIES, 4)
    return chains


def flipped(chance: random.Random, value: bytes) -> bytes:
    place = chance.randrange(len(value))
    return value[:place] + bytes([value[place] ^ 1 << chance.randrange(8)]) + value[place + 1 :]


def flipped_text(chance: random.Random, text: str, accept: Callable[[str], Any] = str) -> str:
    """Another byte in it, such that the database takes it as text; or as what `accept` accepts."""
    while True:
        try:
            changed = flipped(chance, text.encode()).decode()
            accept(changed)
        except ValueError:
            continue
        if "\0" not in changed:
            return changed


TEXTS = ("project_id", "actor", "token_id", "request_id", "action", "target", "reason", "before", "after")


async def test_any_byte_that_was_changed_is_found(tampered: Tampered) -> None:
    chance = random.Random(7)
    flips = 0
    for _ in range(15):
        for column in (*TEXTS, "id", "sequence", "at", "details", "previous_hash", "hash"):
            row = chance.choice(tampered.rows)
            value, kind = row[column], ""
            if column in TEXTS:
                value = "x" if value is None else chance.choice([flipped_text(chance, value), None])
                value = "" if value is None and column in {"actor", "action", "target"} else value
            elif column == "id":
                value = flipped(chance, value.bytes).hex()
            elif column == "sequence":
                value ^= 1 << chance.randrange(40)
            elif column == "at":
                value += timedelta(microseconds=1 << chance.randrange(45))
            elif column == "details":
                value, kind = flipped_text(chance, row["told"], json.loads), "::json"
            else:
                value = flipped(chance, bytes(value)) if value else b"\1"
            await tampered.set(row, column, value, kind)
            report = await tampered.found()
            assert not report.valid, (column, row, value)
            assert report.faults
            flips += 1
    assert flips == 225
    for infinite in ("infinity", "-infinity"):
        await tampered.set(tampered.rows[5], "at", infinite)
        assert not (await tampered.found()).valid
    assert (await tampered.found()).valid


async def test_details_that_mean_the_same_and_are_written_otherwise_are_found(tampered: Tampered) -> None:
    row = next(row for row in tampered.rows if row["told"].startswith('{"fields"'))
    for told in (
        row["told"].replace(":", ": ", 1),
        '{"n":1,' + row["told"][1:],
        row["told"].replace('"', '"\\u0061', 1),
    ):
        await tampered.set(row, "details", told, "::json")
        assert not (await tampered.found()).valid


async def test_any_head_that_was_changed_is_found(tampered: Tampered) -> None:
    chance = random.Random(8)
    for table, one in (("audit_head", "true"), *(("projects", f"id = '{name}'") for name in ("shop", "blog", "docs"))):
        for _ in range(5):
            column, value = chance.choice(
                [
                    ("audit_sequence", "audit_sequence # (1 << %(bit)s)"),
                    ("audit_hash", "set_bit(audit_hash, %(bit)s, 1 - get_bit(audit_hash, %(bit)s))"),
                ]
            )
            await tampered.execute(f"update {table} set {column} = {value} where {one}", bit=chance.randrange(30))
            assert not (await tampered.found()).valid
    await tampered.execute("delete from audit_head")
    assert not (await tampered.reader.verify(None)).valid


async def test_any_entry_that_was_removed_is_found_and_named(tampered: Tampered) -> None:
    chance = random.Random(9)
    last = {row["project_id"]: row for row in sorted(tampered.rows, key=lambda row: row["sequence"])}
    for row in [*last.values(), *chance.sample(tampered.rows, 40)]:
        await tampered.execute("delete from audit where id = %(id)s", id=row["id"])
        report = await tampered.found()
        assert not report.valid
        chain, _, place = report.faults[0].where.partition(":")
        assert chain == (row["project_id"] or "-")
        assert abs(int(place) - row["sequence"]) == 1


async def test_any_two_that_were_swapped_are_found(tampered: Tampered) -> None:
    chance = random.Random(10)
    content = ", ".join((*TEXTS, "at", "details", "id"))
    linked = "sequence, previous_hash, hash"
    by_place = {(row["project_id"], row["sequence"]): row for row in tampered.rows}
    for columns in ("sequence", content, linked, "previous_hash, hash", "project_id, sequence"):
        for neighbours in (True, False) * 5:
            one = chance.choice(tampered.rows)
            if neighbours:
                other = by_place.get((one["project_id"], one["sequence"] + 1)) or by_place[one["project_id"], 1]
            else:
                other = chance.choice([row for row in tampered.rows if row is not one])
            await tampered.execute(
                f"update audit set ({columns}) = (select {columns} from audit_was as was where was.id ="
                " case audit.id when %(one)s then %(other)s else %(one)s end) where id in (%(one)s, %(other)s)",
                one=one["id"],
                other=other["id"],
            )
            assert not (await tampered.found()).valid, (columns, one, other)


async def test_a_tail_that_was_cut_is_found_and_with_its_head_by_an_anchor(tampered: Tampered) -> None:
    anchors = [AuditAnchor.read(chain.anchor) for chain in (await tampered.reader.verify(None)).chains]
    assert (await tampered.found(*anchors)).valid
    for anchor in anchors:
        for cut in (1, 2, 50, anchor.sequence):
            mine = "project_id is not distinct from %(project)s and sequence > %(kept)s"
            known = {"project": anchor.project_id, "kept": anchor.sequence - cut}
            await tampered.execute(f"delete from audit where {mine}", **known)
            assert not (await tampered.found()).valid
            await tampered.execute(f"delete from audit where {mine}", **known)
            head = "audit_head" if anchor.project_id is None else "projects"
            one = "true" if anchor.project_id is None else "id = %(project)s"
            await tampered.execute(
                f"update {head} set audit_sequence = %(kept)s, audit_hash = coalesce((select hash from audit"
                " where project_id is not distinct from %(project)s and sequence = %(kept)s), '')"
                f" where {one}",
                **known,
            )
            assert (await tampered.reader.verify(None)).valid
            report = await tampered.found(*anchors)
            assert [fault.where for fault in report.faults] == [f"{anchor.project_id or '-'}:{anchor.sequence}"]


async def test_an_export_is_checked_with_nothing_but_a_hash(tampered: Tampered) -> None:
    heads: dict[str | None, str] = {}
    there = await entries(tampered.reader)
    assert len(there) == ENTRIES
    assert [entry.at for entry in there] == sorted(entry.at for entry in there)
    for entry in sorted(there, key=lambda one: one.sequence):
        document = json.loads(entry.model_dump_json(by_alias=True))
        told, _ = document.pop("hash"), document.pop("at")
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == told
        assert document["previousHash"] == heads.get(entry.project_id, "")
        heads[entry.project_id] = told


async def test_the_list_is_filtered_and_walked_newest_first(tampered: Tampered) -> None:
    wanted = AuditFilter(projects=["shop", "blog"], action="thing.change", actor="ada")
    expected = [entry.id for entry in await entries(tampered.reader, projects=["shop", "blog"], action="thing.change")]
    walked: list[str] = []
    page = PageRequest(limit=100)
    while True:
        part = await tampered.reader.list_entries(wanted, page)
        assert part.total == len(expected)
        walked += [entry.id for entry in part.items]
        if part.next_cursor is None:
            break
        page = PageRequest(limit=100, cursor=part.next_cursor)
    assert walked == expected[::-1]
    middle = sorted(row["at"] for row in tampered.rows)[ENTRIES // 2]
    assert len(await entries(tampered.reader, since=middle)) == ENTRIES // 2
    assert len(await entries(tampered.reader, until=middle)) == ENTRIES // 2
    assert await entries(tampered.reader, actor="eve") == []


async def test_entries_of_before_are_carried_over_and_chained(postgres: LocalPostgres) -> None:
    async with await psycopg.AsyncConnection.connect(postgres.url("postgres"), autocommit=True) as connection:
        await connection.execute("create database before_the_chain template template1")
    url = postgres.url("before_the_chain")
    old = [
        ("ada", "project.create", "shop", "shop", {}),
        ("ada", "project.update", "shop", "shop", {"fields": ["name", '"ü"\n\t\\\x7f\x01'], "b": None, "a": "é/ß"}),
        ("eve", "token.revoke", None, None, {"nothing": [], "number": 3, "yes": True}),
    ]
    files = sorted(resources.files("store").joinpath("migrations").iterdir(), key=lambda file: file.name)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("create table migrations (name text primary key, at timestamptz default now())")
        for file in files:
            if file.name < "0008":
                await connection.execute(file.read_text().encode())
                await connection.execute("insert into migrations (name) values (%s)", (file.name,))
        await connection.execute("insert into projects (id, name, provider) values ('shop', 'shop', 'internal')")
        for actor, action, project, target, details in old:
            await connection.execute(
                "insert into audit (actor, action, project_id, target, details) values (%s, %s, %s, %s, %s)",
                (actor, action, project, target, json.dumps(details)),
            )
    await migrate(url)
    async with Database(url) as database:
        reader = AuditReader(database)
        there = await entries(reader)
        assert sorted(
            (one.actor, one.action, one.project_id, one.target or None, one.details) for one in there
        ) == sorted(old)
        report = await reader.verify(None)
        assert report.faults == []
        assert [(chain.project_id, chain.entries) for chain in report.chains] == [(None, 1), ("shop", 2)]


class Busy:
    """An environment in which one runs and another waits for approval, for all that may be done there now."""

    def __init__(self, deeds: Deeds) -> None:
        self.deeds = deeds

    async def prepare(self) -> None:
        await self.deeds.end(await self.deeds.trigger())
        self.done = await self.deeds.trigger()
        await self.deeds.end(self.done)
        self.environment = await self.deeds.production()
        self.running = await self.deeds.trigger()
        await self.protect(1)
        self.waiting = await self.deeds.trigger(source_ref="next")

    async def protect(self, approvals: int) -> None:
        change = UpdateEnvironmentRequest(protection=Protection(required_approvals=approvals))
        await self.deeds.projects.update_environment(self.environment, change, "ada")

    async def approve(self) -> None:
        await self.deeds.gate.decide(self.waiting, "bob", "approve", None)

    async def look(self) -> None:
        await self.deeds.gate.look(self.waiting)

    async def finish(self) -> None:
        await self.deeds.progress.finish(self.running, DONE)

    async def rollback(self) -> None:
        await self.deeds.deployments.rollback(self.done, RollbackRequest(), "ada")

    async def supersede(self) -> None:
        await self.deeds.trigger(concurrency="supersede", cancel_running=True, break_glass="now")

    async def change(self) -> None:
        await self.protect(2)

    async def create(self) -> None:
        staging = CreateEnvironmentRequest(name="staging", type="staging", is_default=True)
        await self.deeds.projects.create_environment("shop", staging, "ada")


_OF_DEPLOYMENTS = [
    ("approve", "running"),
    ("look", "running"),
    ("finish", "waiting"),
    ("rollback", "running"),
    ("supersede", "running"),
    ("change", "waiting"),
]
_DEEDS = ["approve", "look", "finish", "rollback", "supersede", "change", "create"]


@pytest.mark.parametrize(("deed", "held"), [*_OF_DEPLOYMENTS, *((deed, "environment") for deed in _DEEDS)])
async def test_who_waits_for_an_environment_or_a_deployment_does_not_hold_the_project(
    deeds: Deeds, database: Database, deed: str, held: str
) -> None:
    busy = Busy(deeds)
    await busy.prepare()
    if deed == "look":
        await busy.protect(0)

    async def waits() -> bool:
        row = await database.fetch_one(
            "select count(*) as number from pg_stat_activity where wait_event_type = 'Lock'"
            " and datname = current_database()"
        )
        return row == {"number": 1}

    table = "environments" if held == "environment" else "deployments"
    async with await psycopg.AsyncConnection.connect(database.url) as somebody:
        lock = f"select 1 from {table} where id = %s for update"
        await somebody.execute(lock.encode(), (getattr(busy, held),))
        doing = asyncio.create_task(getattr(busy, deed)())
        await eventually(waits)
        await somebody.execute("select 1 from projects where id = 'shop' for no key update nowait")
        await somebody.rollback()
    await doing


async def test_a_crowd_that_does_everything_at_once_neither_blocks_itself_nor_breaks_the_chain(
    deeds: Deeds, reader: AuditReader, database: Database
) -> None:
    chance = random.Random(11)
    rules = {"pushRules": [{"branches": ["*"], "environment": "production"}], "concurrency": "queue"}
    await deeds.projects.update_project("shop", UpdateProjectRequest.model_validate(rules), "ada")
    environment = await deeds.production()
    await deeds.end(await deeds.trigger())

    async def deploy() -> None:
        policy = chance.choice(["queue", "supersede", "parallel"])
        one = await deeds.trigger(concurrency=policy, cancel_running=chance.random() < 0.2)
        while not (look := await deeds.gate.look(one)).may_go and look.ending is None:
            if chance.random() < 0.4:
                await tolerant(deeds.gate.decide(one, chance.choice(["bob", "eve"]), "approve", None))
            if chance.random() < 0.1:
                await tolerant(deeds.deployments.request_cancel(one, "bob"))
            if chance.random() < 0.1:
                break
        if look.may_go:
            for status in (Status.BUILDING, Status.DEPLOYING):
                await deeds.progress.reach(one, status)
        await deeds.progress.finish(one, look.ending or DONE)
        if chance.random() < 0.3:
            back = await tolerant(deeds.deployments.rollback(one, RollbackRequest(), "bob"))
            if back is not None:
                await deeds.gate.look(back.answer.id)
                await deeds.progress.finish(back.answer.id, DONE)

    async def arrange() -> None:
        for number in range(6):
            protection = Protection(required_approvals=number % 2)
            change = UpdateEnvironmentRequest(protection=protection, held_ref=None)
            await deeds.projects.update_environment(environment, change, "ada")
            name = CreateEnvironmentRequest(name=f"preview-{number}-{chance.randrange(10**9)}", type="preview")
            await deeds.projects.create_environment("shop", name, "ada")
            await deeds.projects.update_project("shop", UpdateProjectRequest(name=f"shop {number}"), "ada")

    async def push() -> None:
        before = "0" * 40
        for _ in range(6):
            commit = f"{chance.getrandbits(160):040x}"
            await deeds.push(commit, before)
            for made in await deeds.pushes.trigger_due(1):
                await deeds.progress.finish(made.id, Ending(status=Status.FAILED))
            before = commit

    async with asyncio.timeout(60):
        await asyncio.gather(*(deploy() for _ in range(30)), arrange(), arrange(), push(), push())
    report = await reader.verify(None)
    assert (report.faults, report.valid) == ([], True)
    assert report.entries > 100
    deadlocks = await database.fetch_one("select deadlocks from pg_stat_database where datname = current_database()")
    assert deadlocks == {"deadlocks": 0}


async def tolerant(work: Awaitable[Any]) -> Any:
    """What `work` gives; None where somebody else was faster. A deadlock would say `unavailable`."""
    try:
        return await work
    except DeploymentError as error:
        if error.code not in {ErrorCode.CONFLICT, ErrorCode.INSUFFICIENT_PERMISSIONS}:
            raise
        return None
