"""Deployments that were started by earlier code go on under today's: recorded histories replay."""

import json
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from store.seal import Sealer
from tests.conftest import SECRET_KEYS
from tests.workflows.record_histories import ENDINGS, HISTORIES, OPEN, WAITS
from workflows.codec import SealedPayloads, data_converter
from workflows.deployment import DeploymentWorkflow

CONVERTER = data_converter(SealedPayloads(Sealer(SECRET_KEYS), "default"))


def test_there_is_a_history_for_every_ending_and_every_wait() -> None:
    assert {path.stem for path in HISTORIES.glob("*.json")} >= {*ENDINGS, *WAITS, *OPEN}


@pytest.mark.parametrize("name", OPEN)
def test_some_have_not_ended(name: str) -> None:
    events = json.loads((HISTORIES / f"{name}.json").read_text())["events"]
    closed = {f"EVENT_TYPE_WORKFLOW_EXECUTION_{how}" for how in ("COMPLETED", "FAILED", "CANCELED", "TERMINATED")}
    assert closed.isdisjoint(event["eventType"] for event in events)


@pytest.mark.parametrize("path", sorted(HISTORIES.glob("*.json")), ids=lambda path: path.stem)
async def test_a_recorded_history_replays(path: Path) -> None:
    replayer = Replayer(workflows=[DeploymentWorkflow], data_converter=CONVERTER, build_id="replay")
    await replayer.replay_workflow(WorkflowHistory.from_json(f"deployment-{path.stem}", path.read_text()))


async def test_a_change_of_the_steps_would_be_noticed() -> None:
    recorded = (HISTORIES / "succeeded.json").read_text()
    changed = recorded.replace('"name": "publish_build"', '"name": "announce_build"')
    assert changed != recorded
    replayer = Replayer(workflows=[DeploymentWorkflow], data_converter=CONVERTER, build_id="replay")
    with pytest.raises(workflow.NondeterminismError, match="announce_build"):
        await replayer.replay_workflow(WorkflowHistory.from_json("deployment-succeeded", changed))
