"""Which commit a request means, and since when a deployment has been wanted."""

from datetime import datetime

from domain.build import BuildRequest
from domain.deployment import Repository as Source
from domain.ids import made_at
from domain.source import is_commit
from providers.github_pages.calls import READ_COMMIT, Commit, CommitText
from providers.github_pages.repository import Repository


async def pinned(repository: Repository, request: BuildRequest) -> Commit | None:
    """The commit that is asked for; None where the newest one of a branch or tag is."""
    ref = request.source_ref
    if request.commit_sha is None and not is_commit(ref):
        return None
    commit = (await repository.ask(READ_COMMIT, ref=request.commit_sha or ref)).read(Commit)
    is_the_commit = request.commit_sha is not None or commit.sha.startswith(ref)
    return commit if is_the_commit else None  # else a branch or tag reads like a commit, and wins


def described(repository: Repository, request: BuildRequest, sha: str, text: CommitText | None) -> Source:
    return Source(
        url=request.repository_url or f"https://github.com/{repository}",
        branch=request.source_ref,
        commit=sha,
        message=text.message[:4096] if text else None,
        author=text.author.name if text and text.author else None,
    )


def wanted_since(deployment_id: str) -> datetime:
    """When the deployment was asked for, in whole seconds, as GitHub counts."""
    return made_at(deployment_id).replace(microsecond=0)
