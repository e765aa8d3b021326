"""What a finished deployment has to show."""

from pydantic import Field

from domain.states import Status
from domain.wire import Wire


class PerformanceMetrics(Wire):
    """Milliseconds, but for the last, which is a score without unit."""

    load_time: float
    first_contentful_paint: float
    largest_contentful_paint: float
    cumulative_layout_shift: float


class DeploymentMetrics(Wire):
    build_time: float = Field(default=0, description="seconds")
    build_size: int = Field(default=0, description="bytes of the output")
    file_count: int = Field(default=0, description="files of the output")
    tests_passed: int = 0
    tests_failed: int = 0
    coverage: float | None = Field(default=None, description="percent of lines")
    performance: PerformanceMetrics | None = None


class Failure(Wire):
    """Why a deployment ended as it did: `error` of a deployment, and each of a result's `errors`."""

    code: str
    message: str
    phase: str | None = Field(default=None, description="the status or the build step in which it happened")
    retryable: bool = False
    hint: str | None = None
    exit_code: int | None = None
    log_excerpt: list[str] = Field(default_factory=list, description="the last lines of the failing step")


class DeploymentWarning(Wire):
    message: str
    step: str | None = None


class DeploymentSummary(Wire):
    status: Status
    duration: float | None = Field(default=None, description="seconds from start to finish")
    commit_sha: str | None = None
    framework: str | None = None
    log_lines: int = 0


class DeploymentResult(Wire):
    deployment_id: str
    success: bool
    artifact_urls: list[str] = Field(default_factory=list)
    deployment_url: str | None = None
    preview_urls: list[str] = Field(default_factory=list)
    metrics: DeploymentMetrics = Field(default_factory=DeploymentMetrics)
    errors: list[Failure] = Field(default_factory=list)
    warnings: list[DeploymentWarning] = Field(default_factory=list)
    summary: DeploymentSummary


class BuildReport(Wire):
    """What a provider can tell about a build that has ended, well or not. `artifact_id` names what was built."""

    metrics: DeploymentMetrics = Field(default_factory=DeploymentMetrics)
    artifact_id: str | None = None
    artifact_urls: list[str] = Field(default_factory=list)
    framework: str | None = None
    warnings: list[DeploymentWarning] = Field(default_factory=list)
