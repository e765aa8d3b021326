"""What a run leaves: how long it took, its artifacts, the warnings of its jobs. Reads only.

The address of an artifact is the one that actions/upload-artifact tells (`artifact-url`): a page for those who are
signed in.
"""

from domain.errors import DeploymentError
from domain.result import BuildReport, DeploymentMetrics, DeploymentWarning
from providers.github_pages.calls import LIST_ANNOTATIONS, LIST_ARTIFACTS, Annotation, Artifact, Artifacts, Job, Run
from providers.github_pages.repository import PER_PAGE, Repository
from providers.github_pages.run_steps import NAME_LENGTH
from providers.github_pages.runs import WorkflowRuns
from providers.http import link, plain

PAGES_ARTIFACT = "github-pages"
MOST_JOBS = 10
MOST_WARNINGS = 50


async def report(runs: WorkflowRuns, build_id: str) -> BuildReport:
    run = await runs.read(build_id)
    if run is None:
        return BuildReport()
    answer = await runs.repository.ask(LIST_ARTIFACTS, params={"per_page": PER_PAGE}, run=str(run.id))
    listed = answer.read(Artifacts).artifacts if answer.status == 200 else []
    artifacts = [artifact for artifact in listed if not artifact.expired]
    page = next((artifact for artifact in artifacts if artifact.name == PAGES_ARTIFACT), None)
    return BuildReport(
        metrics=DeploymentMetrics(build_time=_seconds(run), build_size=page.size_in_bytes if page else 0),
        artifact_id=_name(page) if page and run.conclusion == "success" else None,
        artifact_urls=[f"{url}/artifacts/{each.id}" for each in artifacts if (url := link(run.html_url))],
        warnings=await _warnings(runs.repository, await runs.jobs(run)),
    )


def _seconds(run: Run) -> float:
    if run.updated_at is None:
        return 0
    return max(0.0, (run.updated_at - (run.run_started_at or run.created_at)).total_seconds())


def _name(artifact: Artifact) -> str:
    return plain(artifact.digest, 200) if artifact.digest else str(artifact.id)


async def _warnings(repository: Repository, jobs: list[Job]) -> list[DeploymentWarning]:
    """None where the credential may not read checks: they are not worth a permission of their own."""
    warnings: list[DeploymentWarning] = []
    for job in jobs[:MOST_JOBS]:
        check = (job.check_run_url or "").rpartition("/")[2]
        if not check.isdecimal():
            continue
        try:
            answer = await repository.ask(LIST_ANNOTATIONS, params={"per_page": PER_PAGE}, check=check)
            annotations = answer.read(list[Annotation])
        except DeploymentError:
            break
        warnings += [
            DeploymentWarning(message=plain(annotation.message), step=plain(job.name, NAME_LENGTH))
            for annotation in annotations
            if annotation.annotation_level == "warning" and annotation.message
        ]
    return warnings[:MOST_WARNINGS]
