"""GitHub's words, and what they mean here. A word that is in no table is waited through: GitHub adds some.

Sources: GitHub's description of its REST API (@octokit/openapi) for runs, jobs and Pages deployments; the schema of its
`workflow_run` webhook for `stale` and `startup_failure`; actions/deploy-pages for which words of Pages are final, and
for `deployment_queued` and the empty one, which the description does not have.
"""

from dataclasses import dataclass

from domain.errors import ErrorCode
from domain.result import Failure
from providers.base import BuildStage

RUNNING = "in_progress"
ENDED = "completed"

SITE_HINT = "the repository's settings say where its page comes from: Settings, Pages"
NAME_HINT = "the workflow's run-name has to hold ${{ inputs.deployment_id }}: see docs/github-pages.md"
INPUTS_HINT = "the workflow has to take the inputs deployment_id, environment and ref: see docs/github-pages.md"


@dataclass(frozen=True)
class Verdict:
    """What a final word means. `said` is for the log, and of a failure its message."""

    stage: BuildStage
    said: str
    code: ErrorCode = ErrorCode.BUILD_FAILED
    retryable: bool = False
    hint: str | None = None

    def failure(self, said: str | None = None) -> Failure | None:
        if self.stage == "built":
            return None
        return Failure(code=self.code, message=said or self.said, retryable=self.retryable, hint=self.hint)


WAITS = {
    "requested": "GitHub has taken the run and not queued it yet",
    "queued": "the run waits for a runner of GitHub's",
    "pending": "the run waits for another one of its concurrency group",
    "waiting": "an environment's protection in GitHub holds the run: it waits for an approval there, or for a timer",
    "action_required": "GitHub asks a person to approve the run",
}
"""Statuses of a run or a job. The last one is a conclusion: once a person has acted, the run goes on under its id."""

CONCLUSIONS = {
    "success": Verdict("built", "the run succeeded"),
    "neutral": Verdict("built", "the run ended as neutral: what counts is what GitHub Pages says"),
    "skipped": Verdict("built", "every job of the run was skipped: what counts is what GitHub Pages says"),
    "failure": Verdict("failed", "the run failed"),
    "startup_failure": Verdict(
        "failed", "GitHub could not start the run", hint="the run's page in GitHub says what is wrong with its file"
    ),
    "stale": Verdict("failed", "GitHub gave the run up, since it had waited for too long", retryable=True),
    "timed_out": Verdict("timeout", "the run took longer than GitHub lets it", ErrorCode.TIMEOUT),
    "cancelled": Verdict("canceled", "the run was cancelled", ErrorCode.CANCELED),
}
"""Of a run that is completed. Those that are `built` go on to the page."""

PAGES_WAITS = {
    "": "GitHub Pages has not said yet how far it is",
    "deployment_queued": "GitHub Pages has queued the deployment",
    "deployment_in_progress": "GitHub Pages deploys",
    "syncing_files": "GitHub Pages copies the files",
    "finished_file_sync": "GitHub Pages has copied the files",
    "updating_pages": "GitHub Pages updates the page",
    "purging_cdn": "GitHub Pages empties its caches",
    "deployment_attempt_error": "an attempt of GitHub Pages failed, and it tries again by itself",
}
PAGES = {
    "succeed": Verdict("built", "GitHub Pages has deployed"),
    "deployment_failed": Verdict("failed", "GitHub Pages failed to deploy", ErrorCode.DEPLOY_FAILED, retryable=True),
    "deployment_content_failed": Verdict(
        "failed",
        "GitHub Pages does not accept the artifact",
        ErrorCode.DEPLOY_FAILED,
        hint="it may hold no links, and has to be smaller than 1 GB",
    ),
    "deployment_lost": Verdict(
        "failed", "GitHub Pages lost track of the deployment", ErrorCode.DEPLOY_FAILED, retryable=True
    ),
    "deployment_cancelled": Verdict(
        "canceled",
        "the deployment was cancelled at GitHub Pages",
        ErrorCode.CANCELED,
        hint="GitHub Pages may refuse this commit from now on: push a new one",
    ),
}
"""Of a Pages deployment. One that is queued is never cancelled by us: its commit would be burnt."""

BUILD_WAITS = {"queued": "GitHub Pages has queued the build", "building": "GitHub Pages builds"}
BUILDS = {
    "built": Verdict("built", "GitHub Pages has built and published the branch"),
    "errored": Verdict("failed", "GitHub Pages could not build the branch"),
}
"""Of a build from a branch."""

STATE_OF_STAGE = {"built": "success", "failed": "failure", "canceled": "error", "timeout": "error"}
"""What the GitHub Deployment that is written beside is told."""


def why_waiting(waits: dict[str, str], word: str | None, who: str) -> str:
    """For a person; also for a word that nobody knows."""
    if word is None:
        return f"{who} does not say how far it is"
    return waits.get(word) or f"{who} says {word[:80]!r}"
