"""`make bench`: the figures of the main job, each beside its floor in the same run, on a stack of its own.

Rows: how long `headway up` takes on a new and on a used data directory; the example from trigger to succeeded; a
trigger over HTTP against bare `start_workflow` on the same Temporal server, in turns. Absolute figures are this
machine's.
"""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from rich.console import Console
from rich.table import Table
from temporalio.client import Client

from client.client import DeploymentsClient
from domain.deployment import TriggerDeploymentRequest
from domain.project import CreateProjectRequest
from domain.states import Status
from store.seal import Sealer
from tests.providers.git_server import GitServer
from workflows.control import connect
from workflows.deployment import DeploymentWorkflow
from workflows.plan import DeploymentPlan

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "hello-site"
DEPLOYMENTS = 5
TRIGGERS = 30
READY_SECONDS = 60


@contextmanager
def stack(data_dir: Path) -> Iterator[float]:
    """A stack for as long as the block; gives the seconds that it took to be ready."""
    began = time.monotonic()
    argv = [sys.executable, "-m", "cli", "up", "--data-dir", str(data_dir), "--port", "0"]
    quiet = subprocess.DEVNULL
    environment = {**os.environ, "HEADWAY_TRIGGER_LIMIT": "1000"}
    process = subprocess.Popen(argv, cwd=ROOT, stdout=quiet, stderr=quiet, env=environment)
    try:
        while not (data_dir / "stack.json").exists():
            if process.poll() is not None or time.monotonic() - began > READY_SECONDS:
                raise RuntimeError("the stack did not come up: see the logs in its data directory")
            time.sleep(0.02)
        yield time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


async def deployments(client: DeploymentsClient, repository_url: str) -> list[float]:
    """Seconds from trigger to succeeded, one after the other."""
    configuration = {"buildCommand": "python3 build.py", "outputDirectory": "dist"}
    project = {"id": "example", "provider": "internal", "repositoryUrl": repository_url}
    asked = CreateProjectRequest.model_validate({**project, "configuration": configuration})
    await client.create_project(asked)
    taken = []
    for _ in range(DEPLOYMENTS):
        began = time.monotonic()
        made = await client.trigger_deployment(TriggerDeploymentRequest(project_id="example", source_ref="main"))
        done = await client.wait_for_end(made.id)
        if done.status is not Status.SUCCEEDED:
            raise RuntimeError(f"the example ended as {done.status}: {done.error}")
        taken.append(time.monotonic() - began)
    return taken


async def triggers(client: DeploymentsClient, temporal: Client) -> tuple[list[float], list[float]]:
    """Seconds of a trigger over HTTP, and of a bare start of the same workflow; in turns."""
    project = {"id": "many", "provider": "internal", "repositoryUrl": "https://git.example.org/many.git"}
    await client.create_project(CreateProjectRequest.model_validate({**project, "concurrency": "parallel"}))
    ours, bare = [], []
    for _ in range(TRIGGERS):
        began = time.monotonic()
        await client.trigger_deployment(TriggerDeploymentRequest(project_id="many", source_ref="main"))
        between = time.monotonic()
        await _start(temporal)
        ours.append(between - began)
        bare.append(time.monotonic() - between)
    return ours, bare


async def _start(temporal: Client) -> None:
    identity = uuid4().hex
    plan = {"deploymentId": identity, "projectId": "many", "environment": "production", "provider": "internal"}
    rest = {"sourceRef": "main", "skipDeploy": False, "timeoutSeconds": 60, "buildTimeoutSeconds": 60}
    asked = DeploymentPlan.model_validate({**plan, **rest})
    await temporal.start_workflow(DeploymentWorkflow.run, asked, id=identity, task_queue="nobody")


async def measure(data_dir: Path) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {}
    with stack(data_dir) as seconds:
        figures["headway up, new data directory (s)"] = [seconds]
    with stack(data_dir) as seconds, GitServer(data_dir.with_name("repositories")).running() as git:
        figures["headway up, used data directory (s)"] = [seconds]
        said = json.loads((data_dir / "stack.json").read_text())
        files = {str(path.relative_to(EXAMPLE)): path.read_text() for path in EXAMPLE.rglob("*") if path.is_file()}
        repository = git.repository("example", files)
        async with DeploymentsClient(said["apiUrl"], said["apiToken"]) as client:
            figures["the example, trigger to succeeded (s)"] = await deployments(client, repository.url)
            # Nothing is to be built now: the worker holds still, and ends with the stack.
            os.kill(said["pids"]["worker"], signal.SIGSTOP)
            sealer = Sealer(json.loads((data_dir / "secrets").read_text())["secret_keys"])
            temporal = await connect(said["temporalAddress"], said["temporalNamespace"], sealer)
            ours, bare = await triggers(client, temporal)
        os.kill(said["pids"]["worker"], signal.SIGKILL)
        figures["POST /v1/deployments (ms)"] = [second * 1000 for second in ours]
        figures["bare start_workflow (ms)"] = [second * 1000 for second in bare]
    return figures


def show(figures: dict[str, list[float]]) -> None:
    table = Table("figure", "minimum", "median", "maximum", "n")
    for name, values in figures.items():
        row = (min(values), statistics.median(values), max(values))
        table.add_row(name, *(f"{value:.2f}" for value in row), str(len(values)))
    console = Console()
    console.print(table)
    ours, bare = (statistics.median(figures[name]) for name in list(figures)[-2:])
    console.print(f"a trigger takes {ours / bare:.2f} times a bare start_workflow (medians)")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as directory:
        show(asyncio.run(measure(Path(directory) / "data")))


if __name__ == "__main__":
    main()
