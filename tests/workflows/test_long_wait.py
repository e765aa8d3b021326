"""A month before its turn, on a Temporal server that skips the time in which nothing happens."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.client import WorkflowExecutionDescription
from temporalio.common import SearchAttributeKey
from temporalio.testing import WorkflowEnvironment

from activities.steps import OfDeployment
from domain.gate import Look
from store.seal import Sealer
from tests.conftest import SECRET_KEYS
from tests.servers import SEARCH_ATTRIBUTES, TEMPORAL, TEMPORAL_FLAGS
from tests.workflows.doubles import GO, WAIT, Script, start, workers
from workflows.codec import SealedPayloads, data_converter
from workflows.policies import LOOK_AGAIN

MONTH = timedelta(days=30)
MOST_EVENTS, MOST_BYTES = 51_200, 50 * 2**20
"""At which Temporal ends a workflow (limit.historyCount.error, limit.historySize.error)."""
FLAGS = [
    *(flag for flag in TEMPORAL_FLAGS if "suggestContinueAsNew" not in flag),  # of other tests
    "frontend.WorkflowTimeSkippingEnabled=true",
    "frontend.WorkflowTimeSkippingMaxSkipPerSession=100000",
]


@pytest.fixture(scope="module")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """Each workflow has a clock of its own, which goes on at once when nothing of it runs."""
    async with await WorkflowEnvironment.start_time_skipping_v2(
        dev_server_existing_path=TEMPORAL,
        data_converter=data_converter(SealedPayloads(Sealer(SECRET_KEYS), "default")),
        search_attributes=[SearchAttributeKey.for_keyword(name) for name in SEARCH_ATTRIBUTES],
        dev_server_extra_args=[word for flag in FLAGS for word in ("--dynamic-config-value", flag)],
    ) as environment:
        yield environment


class Patient(Script):
    """Its turn comes after a month."""

    @activity.defn
    async def look_at_gate(self, step: OfDeployment) -> Look:
        self.looks += 1
        return GO if self.looks > MONTH / LOOK_AGAIN else WAIT


async def test_a_month_before_its_turn_is_a_short_history(skipping: WorkflowEnvironment) -> None:
    script = Patient()
    async with workers(skipping.client, script):
        month = (2 * MONTH).total_seconds()
        handle = await start(skipping.client, gated=True, timeout_seconds=month, build_timeout_seconds=month)
        assert await handle.result() == "succeeded"
    done: WorkflowExecutionDescription = await handle.describe()
    assert done.close_time is not None
    assert done.close_time - done.start_time >= MONTH
    assert script.looks == MONTH / LOOK_AGAIN + 1
    assert 0 < done.history_length < MOST_EVENTS / 4
    assert done.raw_description.workflow_execution_info.history_size_bytes < MOST_BYTES / 4
