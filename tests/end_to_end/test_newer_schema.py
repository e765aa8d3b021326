"""An old process on the database of a newer version: additive migrations have run, and it does all that it did."""

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from domain.audit import AuditFilter
from domain.errors import DeploymentError, ErrorCode
from domain.log import LogFilter
from domain.page import PageRequest
from domain.states import Status
from store.audit_reader import AuditReader
from store.database import Database, migrate
from store.environments import EnvironmentStore
from store.events import EventStore
from store.gate import GateStore
from store.logs import LogStore
from store.seal import Sealer
from store.tokens import TokenStore
from tests.end_to_end.held import Service, service

NEWER = """
create table of_a_newer_version (id int primary key);
insert into migrations (name) values ('9999_of_a_newer_version.sql');
do $$ declare name text; begin
    for name in select relname from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
    loop
        execute format('alter table %I add column of_a_newer_version text not null default ''new''', name);
        execute format('alter table %I add column unknown_as_well jsonb', name);
    end loop;
end $$
"""


async def refusal(database: Database) -> ErrorCode | None:
    try:
        await database.fetch_all("select * from deployments")
    except DeploymentError as error:
        return error.code
    return None


@pytest.fixture
async def here(database_url: str, sealer: Sealer, temporal: str, tmp_path: Path) -> AsyncIterator[Service]:
    async with service(database_url, sealer, temporal, tmp_path) as one:
        yield one


async def test_columns_and_tables_of_a_newer_version_change_nothing(here: Service, sealer: Sealer) -> None:
    database: Database = here.database
    await here.project("before")
    done = await here.trigger("before")
    await here.reaches(done, Status.SUCCEEDED)
    for _ in range(300):  # until each connection has prepared it
        await database.fetch_all("select * from deployments")
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
        await connection.execute(NEWER.encode())
    # What was prepared before fails once, as if the database were away; then all is prepared anew.
    refused = [await refusal(database) for _ in range(50)]
    assert [code for code in refused if code] in ([], [ErrorCode.UNAVAILABLE])
    assert await migrate(database.url) == []

    await here.project("after")
    await here.protect("after")
    waiting, next_one = await here.trigger("after"), await here.trigger("before")
    await GateStore(database).decide(waiting, "bob", "approve", None)
    for one in (waiting, next_one):
        await here.reaches(one, Status.SUCCEEDED)

    everything = PageRequest()
    projects = (await here.projects.list_projects(["*"], everything)).items
    assert {project.id for project in projects} == {"before", "after"}
    for name in ("before", "after"):
        [environment] = (await here.projects.list_environments(name, everything)).items
        assert (await here.projects.get_environment(environment.id)).name == environment.name
    for one in (done, waiting, next_one):
        assert (await here.deployments.result(one)) is not None
        assert await EventStore(database).of_deployment(one, 0)
        await LogStore(database, sealer).page(one, LogFilter(), limit=10)
    created = await TokenStore(database, sealer).list_tokens(everything)
    assert created.items == []
    reader = AuditReader(database)
    assert (await reader.list_entries(AuditFilter(), everything)).items
    assert (await reader.verify(None)).valid
    await EnvironmentStore(database).expire_due()
    await here.reconciler.round()
