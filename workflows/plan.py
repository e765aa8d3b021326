"""What a deployment's workflow is started with: all that it decides by, and no secret."""

from domain.deployment import Deployment
from domain.wire import Wire
from workflows.policies import BUILD_TIMEOUT

TASK_QUEUE = "headway"
UPKEEP_QUEUE = "headway-upkeep"
"""Of what is done now and then. Its workers have no versions: none is kept alive by an hour's round."""
BUILD_QUEUE = "headway-builds"
"""Where builds are started; a build that lives on one host names the queue of that host."""

SHOWN = 80
"""Characters of a text from outside in a summary: clusters take 400 bytes (`limit.userMetadataSummarySize`), sealed."""


class DeploymentPlan(Wire):
    deployment_id: str
    project_id: str
    environment: str
    provider: str
    source_ref: str
    skip_deploy: bool
    timeout_seconds: float
    build_timeout_seconds: float
    gated: bool = False
    restores: str | None = None


def plan_of(deployment: Deployment) -> DeploymentPlan:
    configuration = deployment.configuration
    return DeploymentPlan(
        deployment_id=deployment.id,
        project_id=deployment.project_id,
        environment=configuration.environment,
        provider=deployment.provider,
        source_ref=deployment.source_ref,
        skip_deploy=configuration.skip_deploy,
        timeout_seconds=configuration.timeout_seconds,
        restores=deployment.restores,
        gated=deployment.waiting_on is not None,
        build_timeout_seconds=min(BUILD_TIMEOUT.total_seconds(), configuration.timeout_seconds),
    )
