"""A database that is away in one of its ways: always the same plain answer, and work goes on when it is back."""

import asyncio

import psycopg
import pytest

from domain.errors import DeploymentError, ErrorCode
from store.database import Database


async def _refused(database: Database, statement: str) -> DeploymentError:
    with pytest.raises(DeploymentError) as refused:
        await database.fetch_all(statement)
    assert refused.value.code == ErrorCode.UNAVAILABLE
    assert refused.value.retry_after_seconds
    return refused.value


async def test_one_that_does_not_answer_is_given_up_but_by_those_who_are_patient(database_url: str) -> None:
    async with Database(database_url, pool_size=1, patience_seconds=0.5) as database:
        assert "TimeoutError" in (await _refused(database, "select pg_sleep(600)")).message
        assert await database.fetch_one("select 1 as one") == {"one": 1}
        async with database.connection(patient=True) as connection:
            await connection.execute("select pg_sleep(1)")


async def test_one_that_is_read_only_is_read_and_taken_for_away_by_writers(database_url: str) -> None:
    """As after a fail-over that has left the connections at what is a standby now."""
    name = database_url.rpartition("/")[2]
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as operator:
        await operator.execute(f"alter database {name} set default_transaction_read_only = on".encode())
        async with Database(database_url, pool_size=1) as database:
            assert "ReadOnly" in (await _refused(database, "create table anything (id int)")).message
            assert await database.fetch_one("select 1 as one") == {"one": 1}
            await _refused(database, "create table anything (id int)")
            await operator.execute(f"alter database {name} reset default_transaction_read_only".encode())
            # The connection that was refused is not used again.
            async with database.connection() as connection:
                await connection.execute("create table anything (id int)")


async def test_a_pool_that_is_in_use_is_waited_for_and_then_said_to_be_busy(database_url: str) -> None:
    async with Database(database_url, pool_size=1, queue_seconds=0.5) as database, database.connection():
        assert "PoolTimeout" in (await _refused(database, "select 1")).message


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancel_that_comes_with_the_connection_is_not_lost(database_url: str, turns: int) -> None:
    async with Database(database_url, pool_size=1) as database:
        async with database.connection():
            waiting = asyncio.create_task(database.fetch_one("select 1"))
            while not database._pool.get_stats().get("requests_waiting"):
                await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        in_time = waiting.cancel()
        [outcome] = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError) or not in_time
        assert await database.fetch_one("select 1 as one") == {"one": 1}


async def test_a_connection_that_is_ended_is_replaced(database: Database) -> None:
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as operator:
        working = asyncio.create_task(_refused(database, "select pg_sleep(600)"))
        ended = "select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(600)'"
        while not await (await operator.execute(ended)).fetchall():
            await asyncio.sleep(0.01)
        await working
    assert await database.fetch_one("select 1 as one") == {"one": 1}


async def test_who_stops_in_the_middle_of_a_transaction_keeps_nobody_waiting_for_long(database_url: str) -> None:
    """As a worker that the system has suspended."""
    async with Database(database_url, idle_seconds=0.2) as stopped, Database(database_url) as others:
        async with others.connection() as connection:
            await connection.execute("create table things as select 1 as id")

        async def stop() -> None:
            async with stopped.transaction() as connection:
                await connection.execute("update things set id = 2")
                await others.fetch_all("update things set id = 3 returning id")

        with pytest.raises(DeploymentError) as woken:
            await stop()
        assert woken.value.code == ErrorCode.UNAVAILABLE
        assert await others.fetch_one("select id from things") == {"id": 3}


async def test_one_that_is_long_away_is_tried_as_often_as_in_the_beginning() -> None:
    """So that its return is noticed at once, however long it was away."""
    tries = 0

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.transport.abort()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"postgresql://nobody@127.0.0.1:{server.sockets[0].getsockname()[1]}/none"
    async with server, asyncio.timeout(30), Database(url, queue_seconds=0.5) as database:
        while tries < 16:  # one that paused for longer and longer would come to them after half a minute
            await _refused(database, "select 1")
