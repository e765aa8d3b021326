"""Deployments that were started by earlier code go on under today's: recorded histories replay."""

from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from store.seal import Sealer
from tests.conftest import SECRET_KEYS
from tests.workflows.record_histories import ENDINGS, HISTORIES
from workflows.codec import SealedPayloads, data_converter
from workflows.deployment import DeploymentWorkflow

CONVERTER = data_converter(SealedPayloads(Sealer(SECRET_KEYS), "default"))


def test_there_is_a_history_for_every_ending() -> None:
    assert {path.stem for path in HISTORIES.glob("*.json")} >= set(ENDINGS)


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
