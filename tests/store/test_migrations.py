"""Code and schema say the same."""

import asyncio
from typing import Any

from sqlalchemy.dialects import postgresql
from sqlmodel import SQLModel

from domain.states import ACTIVE
from store import tables
from store.database import Database, migrate

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
