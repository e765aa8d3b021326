"""What a ref means now, as the repository's server says it."""

import pytest

from domain.errors import DeploymentError
from tests.providers.conftest import MakeInternal, MakeRepository, build_request


async def test_branches_tags_and_commits_are_resolved_and_others_are_unknown(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    internal, source = make_internal(), repository({"a": "1"})

    head = source.git("rev-parse", "HEAD")
    source.git("tag", "--annotate", "v1", "--message", "annotated")
    for ref in ("main", "v1", "refs/heads/main", "HEAD", head):
        assert await internal.resolve_commit(build_request(source.url, ref=ref)) == head
    assert await internal.resolve_commit(build_request(source.url, ref="no-such-ref")) is None
    assert await internal.resolve_commit(build_request("http://127.0.0.1:1/x.git")) is None
    with pytest.raises(DeploymentError):
        await internal.resolve_commit(build_request(source.url, ref="--upload-pack=x"))
