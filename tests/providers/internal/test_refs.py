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


async def test_a_commit_is_found_in_the_history_of_those_that_came_of_it_alone(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    internal, source = make_internal(), repository({"a": "1"})
    good = source.git("rev-parse", "HEAD")
    bad = source.commit({"a": "2"})
    mended = source.commit({"a": "1"}, "take it back")
    source.git("checkout", "--quiet", "-b", "other", good)
    apart = source.commit({"a": "3"})

    async def descends(commit: str, ref: str, url: str = source.url) -> bool | None:
        asked = build_request(url, ref=ref).model_copy(update={"commit_sha": commit})
        return await internal.has_in_history(asked, bad)

    for url in (source.url, source.dumb_url):
        assert [await descends(*one, url) for one in ((bad, "main"), (mended, "main"))] == [True, True]
        assert [await descends(*one, url) for one in ((good, "main"), (apart, "other"))] == [False, False]
    assert not list((internal.root / "histories").iterdir())
    for commit, url in (("f" * 40, source.url), (mended, "http://127.0.0.1:1/x.git")):
        with pytest.raises(DeploymentError, match="does not give the history"):
            await descends(commit, "main", url)
    with pytest.raises(DeploymentError, match="which commit main means"):
        await internal.has_in_history(build_request(source.url), bad)
