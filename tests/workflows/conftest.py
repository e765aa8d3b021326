"""A client of the test run's Temporal server. Tests of workflows share its task queues, so each ends its workers."""

import pytest
from temporalio.client import Client

from store.seal import Sealer
from tests.conftest import SECRET_KEYS
from workflows.control import connect


@pytest.fixture(scope="session")
async def client(temporal: str) -> Client:
    return await connect(temporal, "default", Sealer(SECRET_KEYS))
