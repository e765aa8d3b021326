"""What all tests share: real PostgreSQL and real Temporal, one of each per test run, a database of its own per test."""

import base64
import itertools
from collections.abc import AsyncIterator

import psycopg
import pytest
import structlog
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from store.database import Database, migrate
from store.seal import Sealer
from store.server import LocalPostgres
from tests.issuer import Issuer, running_issuer
from tests.servers import PATIENCE_SECONDS, postgres_server, temporal_server

SECRET_KEYS = "test:" + base64.b64encode(bytes(32)).decode()
_TEMPLATE = "headway_template"
_LONGEST = [
    "end_to_end",
    "api/test_openapi.py",
    "chaos/test_chaos.py",
    "providers/test_github_pages.py",
    "end_to_end/test_outage.py",
    "test_stack.py",
    "providers/internal/test_takeover.py",
    "end_to_end/test_reconcile.py",
    "workflows/test_versions.py",
    "store/test_audit.py",
    "providers/test_netlify.py",
    "providers/internal/test_supervisor.py",
    "client/test_cli.py",
    "test_settings.py",
    "test_production.py",
]
"""As `_share` names them."""

_WITHOUT_STACK = {"end_to_end/test_outage.py", "end_to_end/test_reconcile.py"}

_numbers = itertools.count(1)


def pytest_configure() -> None:
    """Tracebacks as the service writes them: with the values of all that is around, one takes many seconds."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first, so that nobody waits for one at the end."""
    items.sort(key=lambda item: _LONGEST.index(_share(item.nodeid)) if _share(item.nodeid) in _LONGEST else 99)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """How `make test` shares the tests out."""
    return _Shares(config, log)


class _Shares(LoadScopeScheduling):  # type: ignore[misc]  # xdist carries no annotations
    def _split_scope(self, nodeid: str) -> str:
        return _share(nodeid)


def _share(nodeid: str) -> str:
    """What one process gets as a whole: a file, or all that use the local stack of tests/end_to_end."""
    path = nodeid.partition("::")[0].removeprefix("tests/")
    return "end_to_end" if path.startswith("end_to_end/") and path not in _WITHOUT_STACK else path


@pytest.fixture(scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalPostgres]:
    """A PostgreSQL server with a migrated template database."""
    async with postgres_server(tmp_path_factory.mktemp("servers")) as server:
        await _create(server, _TEMPLATE, template="template1")
        await migrate(server.url(_TEMPLATE))
        yield server


@pytest.fixture(scope="session")
async def temporal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a Temporal server."""
    async with temporal_server(tmp_path_factory.mktemp("servers")) as address:
        yield address


@pytest.fixture
async def database_url(postgres: LocalPostgres) -> str:
    """The address of an empty, migrated database that no other test uses."""
    name = f"test_{next(_numbers)}"
    await _create(postgres, name, template=_TEMPLATE)
    return postgres.url(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, queue_seconds=PATIENCE_SECONDS) as opened:
        yield opened


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """An OpenID Connect issuer."""
    async with running_issuer() as running:
        yield running


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(SECRET_KEYS)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that runs here, or its variables, must not be found by a test."""
    for name in ("HEADWAY_API_URL", "HEADWAY_TOKEN", "HEADWAY_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


async def _create(server: LocalPostgres, name: str, template: str) -> None:
    async with await psycopg.AsyncConnection.connect(server.url("postgres"), autocommit=True) as connection:
        await connection.execute(f"create database {name} template {template}".encode())
