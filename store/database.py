"""The connection pool, transactions and migrations. Whoever starts first brings the schema up to date."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import orjson
import psycopg
from psycopg.errors import FeatureNotSupported, IdleInTransactionSessionTimeout, ReadOnlySqlTransaction
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from domain.errors import DeploymentError, ErrorCode

Connection = psycopg.AsyncConnection[DictRow]
Row = dict[str, Any]

CHANNEL = "headway"
"""The one NOTIFY channel. Its payload is `deployment id` or `deployment id + space + project id`."""

_MIGRATION_LOCK = 4_839_201_177  # any number that nobody else in this database locks
_RETRY_AFTER_SECONDS = 2
_PAUSE_SECONDS = 0.2
_AWAY_SECONDS = 1.0
_AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    ReadOnlySqlTransaction,
    IdleInTransactionSessionTimeout,
    PoolTimeout,
)
_CUT_OFF = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 15_000}
"""A connection that was cut on the way, without a word, is given up after 25 s; libpq's names and units."""

set_json_dumps(lambda document: orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS))
set_json_loads(orjson.loads)


class Database:
    """A pool of connections. Use as an async context manager, or `open` and `close` it."""

    def __init__(
        self,
        url: str,
        pool_size: int = 10,
        patience_seconds: float | None = None,
        queue_seconds: float = 8,
        idle_seconds: float = 15,
    ) -> None:
        """`patience_seconds` is what a piece of work may take until the database is taken for away; None: any time.
        `queue_seconds` is how long a connection that is free is waited for; a second, once nobody has had one for so
        long. `idle_seconds` is how long a process that
        has stopped in the middle of a transaction keeps others from the rows that it has locked.
        """
        self.url = url
        self._queue_seconds = queue_seconds
        self._given_at = time.monotonic()
        self._away = False
        self._patience = patience_seconds
        self._idle_milliseconds = int(idle_seconds * 1000)
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=pool_size,
            timeout=queue_seconds,
            # Then whoever asks next makes it try at once. Else it pauses for as long again as it has failed.
            reconnect_timeout=queue_seconds,
            open=False,
            connection_class=psycopg.AsyncConnection[DictRow],
            kwargs={
                "row_factory": dict_row,
                "connect_timeout": 5,
                **_CUT_OFF,
                "application_name": "headway",
                "autocommit": True,  # a transaction is begun where one is asked for
            },
            check=AsyncConnectionPool.check_connection,
            configure=self._configure,
        )

    async def open(self) -> None:
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close()

    async def __aenter__(self) -> "Database":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _configure(self, connection: Connection) -> None:
        statement = f"set idle_in_transaction_session_timeout = {self._idle_milliseconds}"
        await execute(connection, statement)

    @asynccontextmanager
    async def connection(self, *, patient: bool = False) -> AsyncIterator[Connection]:
        """A connection on which each statement is a transaction of its own, without the way to and fro of both ends.

        `patient` is for what may take long.

        Raises:
            DeploymentError: unavailable, when the database is out of reach, full or read-only, or does not answer, or
                when it has ended a transaction in which nothing happened for too long.
        """
        task = asyncio.current_task()
        asked = task.cancelling() if task else 0
        try:
            async with asyncio.timeout(None if patient else self._patience) as limit:
                async with self._given() as connection:
                    try:
                        yield connection
                    except ReadOnlySqlTransaction:
                        await connection.close()  # after a fail-over the next one leads to the new primary
                        raise
                    except FeatureNotSupported as error:
                        if not _is_stale(error):
                            raise
                        # A newer version has added columns under us: what is prepared for the old ones goes, at once.
                        await connection.close()
                        await self._pool.drain()
                        raise unavailable(error) from error
        except _AWAY as error:
            raise unavailable(error) from error
        except TimeoutError as error:
            if limit.expired():
                raise unavailable(error) from error
            raise
        # A cancel that comes together with what the pool or psycopg waits for is lost there (`asyncio.wait_for` before
        # Python 3.12, `WaitingClient.wait`), and nobody cancels twice.
        if task and task.cancelling() > asked:
            raise asyncio.CancelledError

    @asynccontextmanager
    async def _given(self) -> AsyncIterator[Connection]:
        """One of the pool's. A database that is away is not waited for by everybody as long as a busy one is."""
        try:
            async with self._pool.connection(_AWAY_SECONDS if self._away else None) as connection:
                self._away, self._given_at = False, time.monotonic()
                yield connection
        except PoolTimeout:
            self._away = time.monotonic() - self._given_at > self._queue_seconds
            raise

    @asynccontextmanager
    async def transaction(self, *, patient: bool = False) -> AsyncIterator[Connection]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        Raises:
            DeploymentError: unavailable, as above.
        """
        async with self.connection(patient=patient) as connection, connection.transaction():
            yield connection

    async def fetch_one(self, statement: str, parameters: dict[str, Any] | None = None) -> Row | None:
        async with self.connection() as connection:
            return await (await execute(connection, statement, parameters)).fetchone()

    async def fetch_all(self, statement: str, parameters: dict[str, Any] | None = None) -> list[Row]:
        async with self.connection() as connection:
            return await (await execute(connection, statement, parameters)).fetchall()

    async def ping(self) -> None:
        """Raises DeploymentError (unavailable) when the database does not answer."""
        await self.fetch_one("select 1 as one")


def unavailable(error: Exception) -> DeploymentError:
    return DeploymentError(
        ErrorCode.UNAVAILABLE,
        f"the database is out of reach ({type(error).__name__}); try again, with the same Idempotency-Key",
        retry_after_seconds=_RETRY_AFTER_SECONDS,
    )


async def execute(
    connection: Connection, statement: str, parameters: dict[str, Any] | None = None
) -> psycopg.AsyncCursor[DictRow]:
    """Runs a statement of ours: its text is constant, values travel as parameters."""
    return await connection.execute(statement.encode(), parameters)


async def migrate(url: str) -> list[str]:
    """Applies the numbered files that have not run yet, each in its own transaction; says which.

    Safe to call from several processes at once: they wait for each other on an advisory lock.
    """
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=5) as connection:
        await connection.execute("select pg_advisory_lock(%s)", (_MIGRATION_LOCK,))
        await connection.execute(
            "create table if not exists migrations (name text primary key, at timestamptz default now())"
        )
        done = {row[0] for row in await (await connection.execute("select name from migrations")).fetchall()}
        applied = []
        for file in _migrations():
            if file.name not in done:
                async with connection.transaction():
                    await connection.execute(file.read_text().encode())
                    await connection.execute("insert into migrations (name) values (%s)", (file.name,))
                applied.append(file.name)
        return applied


def _is_stale(error: FeatureNotSupported) -> bool:
    """Whether a table has other columns than when its statement was prepared: that has no code of its own."""
    return "cached plan" in str(error)


def _migrations() -> list[Traversable]:
    folder = resources.files("store").joinpath("migrations")
    return sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)


async def not_migrated(database: Database) -> list[str]:
    """Migrations that this version brings and the database has not seen."""
    done = {row["name"] for row in await database.fetch_all("select name from migrations")}
    return [file.name for file in _migrations() if file.name not in done]


async def migrate_patiently(url: str, patience_seconds: float = 60) -> list[str]:
    """As `migrate`, for a database that is still coming up.

    Raises:
        DeploymentError: unavailable, when it has not come up in time.
    """
    until = time.monotonic() + patience_seconds
    while True:
        try:
            return await migrate(url)
        except psycopg.OperationalError as error:
            if time.monotonic() > until:
                raise unavailable(error) from error
        await asyncio.sleep(_PAUSE_SECONDS)


async def notify(connection: Connection, *words: str) -> None:
    """Tells every API process, at commit, that something of a deployment is new."""
    await execute(
        connection, "select pg_notify(%(channel)s, %(payload)s)", {"channel": CHANNEL, "payload": " ".join(words)}
    )
