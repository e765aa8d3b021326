"""What is asked of GitHub, and what is read of its answers. A field that is not needed is not read.

Source: GitHub's description of its REST API (@octokit/openapi). Ids are GitHub's; moments have a time zone.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from domain.errors import ErrorCode
from providers.http import Call

HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}

_REPO = "/repos/{owner}/{repo}"
_RUN = _REPO + "/actions/runs/{run}"
_REF = ErrorCode.INVALID_SOURCE_REF

READ_REPOSITORY = Call("read the repository", "GET", _REPO)
READ_COMMIT = Call("read the commit", "GET", _REPO + "/commits/{ref}", refused_as=_REF)
DISPATCH = Call("start the workflow", "POST", _REPO + "/actions/workflows/{workflow}/dispatches")
LIST_RUNS = Call("list the runs of the workflow", "GET", _REPO + "/actions/workflows/{workflow}/runs")
READ_RUN = Call("read the run", "GET", _RUN, handed_back={304, 404})
LIST_JOBS = Call("list the jobs of the run", "GET", _RUN + "/jobs", handed_back={304, 404})
LIST_ARTIFACTS = Call("list the artifacts of the run", "GET", _RUN + "/artifacts", handed_back={404})
CANCEL_RUN = Call("cancel the run", "POST", _RUN + "/cancel", {404, 409}, repeatable=True, urgent=True)
FORCE_CANCEL = Call("cancel the run by force", "POST", _RUN + "/force-cancel", {404, 409}, repeatable=True, urgent=True)
LINK_TO_LOG = Call("read a job's log", "GET", _REPO + "/actions/jobs/{job}/logs", {302, 404, 410}, vital=False)
FETCH_LOG = Call("hand over a job's log", "GET", "", vital=False)
LIST_ANNOTATIONS = Call("list a job's annotations", "GET", _REPO + "/check-runs/{check}/annotations", vital=False)

READ_PAGE = Call("read the page", "GET", _REPO + "/pages", handed_back={304, 404})
READ_PAGES_DEPLOYMENT = Call("read the deployment of the page", "GET", _REPO + "/pages/deployments/{id}", {304, 404})
REQUEST_BUILD = Call("build the page", "POST", _REPO + "/pages/builds")
LIST_BUILDS = Call("list the builds of the page", "GET", _REPO + "/pages/builds", handed_back={304})

LIST_DEPLOYMENTS = Call("list deployments", "GET", _REPO + "/deployments", vital=False)
CREATE_DEPLOYMENT = Call("note a deployment", "POST", _REPO + "/deployments", vital=False)
LIST_STATUSES = Call("list statuses of a deployment", "GET", _REPO + "/deployments/{id}/statuses", vital=False)
CREATE_STATUS = Call("note a deployment's status", "POST", _REPO + "/deployments/{id}/statuses", vital=False)

FIND_INSTALLATION = Call("find the app's installation", "GET", _REPO + "/installation", handed_back={404})
CREATE_TOKEN = Call("make a token", "POST", "/app/installations/{id}/access_tokens", repeatable=True, urgent=True)


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(_with_zone)]


class Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Repo(Read):
    default_branch: str


class Author(Read):
    name: str | None = None


class CommitText(Read):
    message: str = ""
    author: Author | None = None


class Commit(Read):
    sha: str
    commit: CommitText


class Dispatched(Read):
    workflow_run_id: int


class Run(Read):
    id: int
    status: str | None
    conclusion: str | None = None
    run_attempt: int | None = None
    run_number: int | None = None
    head_sha: str
    head_commit: CommitText | None = None
    display_title: str = ""
    html_url: str | None = None
    created_at: Moment
    run_started_at: Moment | None = None
    updated_at: Moment | None = None


class Runs(Read):
    workflow_runs: list[Run]


class Step(Read):
    name: str
    number: int
    status: str | None
    conclusion: str | None = None
    started_at: Moment | None = None
    completed_at: Moment | None = None


class Job(Read):
    id: int
    name: str
    status: str | None
    conclusion: str | None = None
    steps: list[Step] = Field(default_factory=list)
    html_url: str | None = None
    check_run_url: str | None = None
    started_at: Moment | None = None
    completed_at: Moment | None = None


class Jobs(Read):
    jobs: list[Job]


class Artifact(Read):
    id: int
    name: str
    size_in_bytes: int = 0
    expired: bool = False
    digest: str | None = None


class Artifacts(Read):
    artifacts: list[Artifact]


class Annotation(Read):
    annotation_level: str | None = None
    message: str | None = None


class PagesDeployment(Read):
    status: str | None = None


class Source(Read):
    branch: str


class Page(Read):
    html_url: str | None = None
    build_type: str | None = None
    source: Source | None = None


class BuildError(Read):
    message: str | None = None


class PagesBuild(Read):
    status: str | None
    commit: str | None
    error: BuildError | None = None
    duration: int | None = None
    created_at: Moment
    updated_at: Moment | None = None


class Deployment(Read):
    id: int
    payload: Any = None


class DeploymentStatus(Read):
    state: str


class Installation(Read):
    id: int


class Token(Read):
    token: str
    expires_at: Moment
