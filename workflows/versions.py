"""Versions of workers: with HEADWAY_WORKER_VERSIONING=pinned a deployment stays with the code that it began under.

Rules:
1. Workflows alone have versions. A build is on one disk, and its builder serves deployments of all versions.
2. A version makes itself current once, when its first worker is there: without one that is, nothing would begin. Never
   again: an old worker that starts anew must not take the place of its successor. Going back is the operator's.
3. Whoever waits at the gate moves to the current version when it is told something, after 6 hours at most.
"""

import asyncio
from typing import Literal

import structlog
from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import WorkerDeploymentVersionStatus as Of
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentResponse,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

NAME = "headway"
LOOK_SECONDS = 5.0
_SOON_SECONDS = 0.5

Place = Literal["new", "waiting", "current", "draining", "drained", "left out", "unversioned"]

_PLACE_OF: dict[int, Place] = {
    Of.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT: "current",
    Of.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING: "current",
    Of.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING: "draining",
    Of.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED: "drained",
}
_SAID: dict[Place, str] = {
    "current": "new deployments begin in this version",
    "draining": "new deployments begin in another version; this one is needed until it is drained",
    "drained": "this version is drained: its workers may be stopped",
    "left out": "new deployments begin in a version, and none comes to workers without one; to change that: temporal "
    f"worker deployment set-current-version --deployment-name {NAME} --unversioned --ignore-missing-task-queues",
}

_log = structlog.get_logger()


def pinned_to(build_id: str) -> WorkerDeploymentConfig:
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(NAME, build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


async def keep_version(client: Client, build_id: str | None) -> None:
    """Gives the version its place, and says what becomes of it. `build_id` is None for a worker without versions."""
    told: Place | None = None
    while True:
        try:
            place = await _find(client, build_id)
        except RPCError as error:
            _log.warning("versions are looked at later", reason=str(error)[:200])
            place = told or "unversioned"
        if place != told and place in _SAID:
            _log.info(_SAID[place], build_id=build_id)
        told = place
        await asyncio.sleep(_SOON_SECONDS if place in {"new", "waiting"} else LOOK_SECONDS)


async def _find(client: Client, build_id: str | None) -> Place:
    """Where the version stands; one that was never current becomes it."""
    asked = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=NAME)
    try:
        found = await client.workflow_service.describe_worker_deployment(asked)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return "new" if build_id else "unversioned"  # its workers have not asked for work yet
        raise
    place = _place(found.worker_deployment_info, build_id)
    return await _promoted(client, found, build_id or "") if place == "waiting" else place


def _place(deployment: WorkerDeploymentInfo, build_id: str | None) -> Place:
    if build_id is None:
        return "left out" if deployment.routing_config.HasField("current_deployment_version") else "unversioned"
    for one in deployment.version_summaries:
        if one.deployment_version.build_id == build_id:
            return _PLACE_OF.get(one.status, "draining") if one.HasField("first_activation_time") else "waiting"
    return "new"


async def _promoted(client: Client, found: DescribeWorkerDeploymentResponse, build_id: str) -> Place:
    """Temporal refuses while not all queues of the version before are served, or when another was quicker."""
    wanted = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace, deployment_name=NAME, build_id=build_id, conflict_token=found.conflict_token
    )
    try:
        await client.workflow_service.set_worker_deployment_current_version(wanted)
    except RPCError as error:
        if error.status in {RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.NOT_FOUND}:
            return "waiting"
        raise
    return "current"
