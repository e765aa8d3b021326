"""Code and schema say the same."""

import asyncio
from importlib import resources
from typing import Any

import psycopg
from sqlalchemy.dialects import postgresql
from sqlmodel import SQLModel

from domain.log import DeploymentLog, LogFilter
from domain.states import ACTIVE
from store import tables
from store.database import Database, migrate
from store.logs import LogStore
from store.seal import Sealer
from store.server import LocalPostgres

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects carry no annotations


def _plain(column_type: Any) -> str:
    """A type's name as PostgreSQL writes it; SQLModel's strings are our text."""
    name = str(column_type.compile(dialect=_DIALECT)).lower()
    return name.replace("varchar", "text")


async def test_the_migrated_tables_have_the_columns_that_the_code_believes_in(database: Database) -> None:
    assert tables.DeploymentRow.__tablename__ == "deployments"
    rows = await database.fetch_all(
        "select c.relname as table_name, a.attname as column_name, format_type(a.atttypid, a.atttypmod) as data_type,"
        " not a.attnotnull as nullable from pg_attribute a join pg_class c on c.oid = a.attrelid"
        " where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped"
    )
    found = {(row["table_name"], row["column_name"]): (row["data_type"], row["nullable"]) for row in rows}
    for table in SQLModel.metadata.tables.values():
        assert {name for owner, name in found if owner == table.name} == {column.name for column in table.columns}
        for column in table.columns:
            data_type, nullable = found[table.name, column.name]
            assert data_type == _plain(column.type), (table.name, column.name)
            assert nullable == column.nullable, (table.name, column.name)


async def test_the_index_of_active_deployments_lists_the_active_statuses(database: Database) -> None:
    row = await database.fetch_one("select indexdef from pg_indexes where indexname = 'deployments_active'")
    assert row is not None
    quoted = {part for number, part in enumerate(row["indexdef"].split("'")) if number % 2}
    assert quoted == ACTIVE


async def test_migrating_at_once_and_again_changes_nothing(database_url: str) -> None:
    assert await asyncio.gather(*(migrate(database_url) for _ in range(3))) == [[], [], []]


def test_each_migration_has_a_number_of_its_own() -> None:
    names = sorted(file.name for file in resources.files("store").joinpath("migrations").iterdir())
    assert len({name[:4] for name in names if name.endswith(".sql")}) == len(names)


FIRST, EMPTY, SILENT = (f"{number}0000000-0000-0000-0000-000000000000" for number in (1, 2, 3))
OLD_ROWS = rf"""
insert into projects (id, name, provider) values ('shop', 'shop', 'internal');
insert into environments (id, project_id, name, type)
    values ('00000000-0000-0000-0000-00000000000e', 'shop', 'production', 'production');
insert into deployments (id, project_id, environment_id, environment_name, sequence, source_ref, triggered_by, provider,
        lane, metadata, configuration, configuration_digest)
    select id::uuid, 'shop', '00000000-0000-0000-0000-00000000000e', 'production', row_number() over (), 'main', 'ada',
        'internal', 'none', '{{}}', '{{}}', '' from unnest(array['{FIRST}', '{EMPTY}', '{SILENT}']) as id;
insert into log_counters values ('{FIRST}', 2500), ('{EMPTY}', 0);
insert into log_streams values ('{FIRST}', 'build', '77'), ('{SILENT}', 'build', '1');
insert into log_lines
    select '{FIRST}', n, '2026-03-01T12:00:00.1239Z'::timestamptz + n * '1s'::interval,
        case when n % 7 = 0 then 'warn' else 'info' end, format(E'line %s "quoted" \\ é\n\x1b[31mred', n),
        case when n > 1200 then 'test' end, case when n = 2500 then 'system' else 'build' end,
        case when n = 3 then '{{"file": "a.c"}}'::jsonb end
    from generate_series(1, 2500) as n;
"""
"""A log of 0.1, as its migrations and code left it: rows, a counter and streams."""


async def test_rows_of_the_first_release_are_carried_over_into_chunks(postgres: LocalPostgres, sealer: Sealer) -> None:
    url, folder = postgres.url("old_rows"), resources.files("store").joinpath("migrations")
    async with await psycopg.AsyncConnection.connect(postgres.url("postgres"), autocommit=True) as connection:
        await connection.execute("create database old_rows template template1")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("create table migrations (name text primary key, at timestamptz default now())")
        for name in ("0001_initial.sql", "0002_log_streams.sql"):
            await connection.execute(folder.joinpath(name).read_text().encode())
            await connection.execute("insert into migrations (name) values (%s)", (name,))
        await connection.execute(OLD_ROWS.encode())
    assert "0003_log_chunks.sql" in await migrate(url)
    async with Database(url) as database:
        logs = LogStore(database, sealer)
        before = await _whole(logs, FIRST)
        await logs.merge(FIRST)
        assert await _whole(logs, FIRST) == before
        assert len(before) == 2500
        third, last = before[2], before[-1]
        assert third.message == 'line 3 "quoted" \\ é\n\x1b[31mred'
        assert third.timestamp.isoformat() == "2026-03-01T12:00:03.123000+00:00"
        assert (third.level, third.step, third.source, third.metadata) == ("info", None, "build", {"file": "a.c"})
        assert (last.id, last.level, last.step, last.source) == ("2500", "info", "test", "system")
        chosen = LogFilter.model_validate({"level": "warn", "step": "test"})
        assert [line.id for line in (await logs.page(FIRST, chosen, limit=2)).lines] == ["1204", "1211"]
        for other in (EMPTY, SILENT):
            assert (await logs.page(other, LogFilter(), limit=1)).lines == []
        assert (await logs.position(FIRST, "build")).cursor == "77"
        row = await database.fetch_one("select day::text, lines from logs order by lines desc limit 1")
        assert row == {"day": "2026-03-01", "lines": 2500}


async def _whole(logs: LogStore, deployment_id: str) -> list[DeploymentLog]:
    pages = [await logs.page(deployment_id, LogFilter(), limit=1000, after=after) for after in (0, 1000, 2000)]
    return [line for page in pages for line in page.lines]
