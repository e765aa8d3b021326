"""Fetching: what a ref means, which servers, and what is refused before anything is executed."""

import asyncio
import base64
import subprocess
from pathlib import Path

import pytest

from domain.errors import DeploymentError, ErrorCode
from domain.result import Failure
from domain.source import split_credentials
from providers.base import BuildNews
from providers.internal.git import remote_of
from providers.internal.provider import Internal
from tests.providers.conftest import ANY_REQUEST, MakeInternal, MakeRepository, build, build_request
from tests.providers.git_server import GitServer, Repository
from tests.providers.hostile_hosts import NO_HOSTS, NOWHERE
from tests.servers import free_port


@pytest.fixture
def source(repository: MakeRepository) -> Repository:
    """`main` has two commits, `next` one more, and `v1` is an annotated tag of the first."""
    made = repository({"index.html": "first"})
    made.git("tag", "--annotate", "v1", "--message", "one")
    made.commit({"index.html": "second"}, "second")
    made.git("checkout", "--quiet", "-b", "feature/next")
    made.commit({"index.html": "third"}, "third")
    made.git("checkout", "--quiet", "main")
    return made


async def failure(internal: Internal, url: str, ref: str = "main") -> Failure:
    _, last, _ = await build(internal, build_request(url, ref=ref))
    assert last.failure is not None
    assert last.failure.phase == "clone"
    return last.failure


async def fetch_all(internal: Internal, source: Repository, *refs: str) -> list[BuildNews]:
    """The last news of a build of each, all of them at once."""
    built = await asyncio.gather(*(build(internal, build_request(source.url, ref=ref)) for ref in refs))
    return [last for _, last, _ in built]


def fetched(last: BuildNews) -> str | None:
    return last.repository.commit if last.repository else None


async def test_branches_and_tags_are_fetched(internal: Internal, source: Repository) -> None:
    refs = ["main", "v1", "feature/next", "HEAD", "refs/heads/main"]

    last = await fetch_all(internal, source, *refs)

    assert [fetched(news) for news in last] == [source.git("rev-parse", f"{ref}^{{commit}}") for ref in refs]
    assert [news.repository.branch for news in last if news.repository] == refs


async def test_full_and_short_commit_ids_are_fetched(internal: Internal, source: Repository) -> None:
    """Also of commits that no branch or tag ends at."""
    older, other = source.git("rev-parse", "main~1"), source.git("rev-parse", "feature/next")

    last = await fetch_all(internal, source, older, older[:12], other[:7])

    assert [fetched(news) for news in last] == [older, older, other]


async def test_a_server_that_refuses_commit_ids_still_gives_them_by_its_branches(
    internal: Internal, source: Repository
) -> None:
    source.git("config", "uploadpack.allowAnySHA1InWant", "false")
    source.git("config", "protocol.version", "0")
    commit = source.git("rev-parse", "main~1")

    _, last, _ = await build(internal, build_request(source.url, ref=commit))

    assert fetched(last) == commit


async def test_a_server_of_plain_files_will_do(internal: Internal, source: Repository) -> None:
    for ref in ("main", "v1"):
        _, last, _ = await build(internal, build_request(source.dumb_url, ref=ref))

        assert fetched(last) == source.git("rev-parse", f"{ref}^{{commit}}")


async def test_a_branch_wins_over_a_tag_and_a_tag_over_a_commit_id(internal: Internal, source: Repository) -> None:
    short = source.git("rev-parse", "--short=7", "main")
    source.git("tag", "both", "main~1")
    source.git("branch", "both", "main")
    source.git("tag", short, "feature/next")

    branch, tag = await fetch_all(internal, source, "both", short)

    assert fetched(branch) == source.git("rev-parse", "refs/heads/main")
    assert fetched(tag) == source.git("rev-parse", "feature/next")


async def test_a_fixed_commit_wins_over_where_the_ref_has_moved_to(internal: Internal, source: Repository) -> None:
    before = source.git("rev-parse", "main~1")

    _, last, _ = await build(internal, build_request(source.url, ref="main", commit=before))

    assert fetched(last) == before
    assert last.repository is not None
    assert last.repository.branch == "main"


async def test_an_unknown_ref_is_named_with_those_that_exist(internal: Internal, source: Repository) -> None:
    refs = ["nowhere", "abcdef1", "0" * 40]

    failures = [news.failure for news in await fetch_all(internal, source, *refs)]

    for ref, said in zip(refs, failures, strict=True):
        assert said is not None
        assert said.code == ErrorCode.INVALID_SOURCE_REF
        assert repr(ref) in said.message
        assert "feature/next, main" in said.message


async def test_an_empty_repository_has_no_branch(internal: Internal, repository: MakeRepository) -> None:
    empty = repository({})
    empty.git("update-ref", "-d", "refs/heads/main")

    assert (await failure(internal, empty.url)).code == ErrorCode.INVALID_SOURCE_REF


async def test_a_missing_repository_is_said_with_a_hint(internal: Internal, git_server: GitServer) -> None:
    said = await failure(internal, f"{git_server.url}/smart/nothing")

    assert said.code == ErrorCode.INVALID_REQUEST
    assert "GIT_TOKEN" in (said.hint or "")


async def test_a_server_out_of_reach_is_tried_again_and_may_be_later(internal: Internal) -> None:
    said = await failure(internal, f"http://127.0.0.1:{free_port()}/site")

    assert said.code == ErrorCode.PROVIDER_ERROR
    assert said.retryable


async def test_submodules_are_refused(internal: Internal, repository: MakeRepository) -> None:
    source = repository({".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch /tmp/x"\n'})

    said = await failure(internal, source.url)

    assert said.code == ErrorCode.INVALID_REQUEST
    assert "submodules" in said.message


async def test_files_in_git_lfs_are_refused(internal: Internal, repository: MakeRepository) -> None:
    source = repository({"img/.gitattributes": "*.png filter=lfs diff=lfs merge=lfs\n", "img/a.png": "pointer"})

    said = await failure(internal, source.url)

    assert said.code == ErrorCode.INVALID_REQUEST
    assert "img/a.png" in said.message


async def test_credentials_of_the_address_are_shown_to_its_server_alone(
    internal: Internal, source: Repository, git_server: GitServer
) -> None:
    url = source.url.replace("http://", "http://ada:p%40ss@")

    _, last, _ = await build(internal, build_request(url))

    shown = {given for path, given in git_server.requests if source.path.name in path}
    assert last.stage == "built"
    assert shown == {"Basic " + base64.b64encode(b"ada:p@ss").decode()}


async def test_a_user_and_password_may_be_the_secret(
    internal: Internal, source: Repository, git_server: GitServer
) -> None:
    _, last, _ = await build(internal, build_request(source.url, secrets={"GIT_TOKEN": "ada:p@ss"}))

    shown = {given for path, given in git_server.requests if source.path.name in path}
    assert last.stage == "built"
    assert shown == {"Basic " + base64.b64encode(b"ada:p@ss").decode()}


async def test_a_token_is_not_shown_over_plain_http(
    internal: Internal, source: Repository, git_server: GitServer
) -> None:
    await build(internal, build_request(source.url, secrets={"GIT_TOKEN": "t0ken-value"}))

    assert {given for path, given in git_server.requests if source.path.name in path} == {None}


def test_a_token_is_shown_over_https_by_the_environment() -> None:
    remote = remote_of("https://127.0.0.1/a/b.git", {"GIT_TOKEN": "t0ken"}, allow_private_addresses=True)

    assert remote.url == "https://127.0.0.1/a/b.git"
    header = "Authorization: Basic " + base64.b64encode(b"x-access-token:t0ken").decode()
    assert header in remote.environment.values()


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "[::1]"])
async def test_a_private_address_is_refused_without_a_connection(
    make_internal: MakeInternal, git_server: GitServer, source: Repository, host: str
) -> None:
    before = len(git_server.requests)
    url = source.url.replace("127.0.0.1", host)

    said = await failure(make_internal(allow_private_addresses=False), url)

    assert said.code == ErrorCode.INVALID_REQUEST
    assert len(git_server.requests) == before


def test_a_checked_address_is_the_one_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(2, 1, 6, "", ("93.184.216.34", 443))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answers)

    https = remote_of("https://rebinding.example/a", {}, allow_private_addresses=False)
    ssh = remote_of("git@rebinding.example:a/b", {}, allow_private_addresses=False)
    plain = remote_of("git://rebinding.example/a", {}, allow_private_addresses=False)

    assert "rebinding.example:443:93.184.216.34" in https.environment.values()
    assert "-o HostName=93.184.216.34" in ssh.environment["GIT_SSH_COMMAND"]
    assert plain.url == "git://93.184.216.34:9418/a"
    assert "false" in https.environment.values()


def test_a_redirect_is_not_followed_where_addresses_are_checked(
    source: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The guard lets this loopback server pass as a public one would, and git is asked with what it then gives."""
    monkeypatch.setattr("providers.addresses.is_public", lambda _: True)
    remote = remote_of(source.moved_url, {}, allow_private_addresses=False)

    argv = ["git", "ls-remote", "--", remote.url]
    asked = subprocess.run(argv, env=remote.environment, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert asked.returncode != 0
    assert "error: 302" in asked.stderr


async def test_a_server_that_was_read_before_is_waited_for(
    internal: Internal, source: Repository, git_server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await build(internal, build_request(source.url))
    monkeypatch.setattr(git_server, "away", True)
    started = await internal.start_build(build_request(source.url))
    said = []
    async for news in internal.follow_build(ANY_REQUEST, started, ""):
        said.append(news.waiting)
        if sum("503" in (reason or "") for reason in said) == 4:
            monkeypatch.undo()

    assert news.stage == "built"
    assert said[-1] is None
    assert {reason for reason in said if reason} == {
        f"{source.url} is out of reach: fatal: unable to access '{source.url}/': The requested URL returned error: 503"
    }


async def test_a_server_that_stays_away_ends_the_build_in_time_and_is_named(
    internal: Internal, source: Repository, git_server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await build(internal, build_request(source.url))
    monkeypatch.setattr(git_server, "away", True)

    _, last, messages = await build(internal, build_request(source.url, seconds=4))

    assert last.stage == "timeout"
    assert last.failure is not None
    assert f"{source.url} is out of reach" in last.failure.message
    assert sum("trying again" in message for message in messages) <= 3


async def test_a_server_that_never_answered_is_not_waited_for(
    internal: Internal, source: Repository, git_server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_server, "away", True)

    said = await failure(internal, source.url)

    assert said.code == ErrorCode.PROVIDER_ERROR
    assert "error: 503" in said.message


URLS = [
    "ext::sh -c touch% {canary}",
    "ext::sh",
    "file:///etc",
    "/etc",
    "fd::3",
    "--upload-pack=touch {canary}",
    "-oProxyCommand=touch",
    "ssh://-oProxyCommand=touch/x",
    "ssh://-x@host/x",
    "-u@host:x",
    "http://host/a\nb",
    "http://host/a\0b",
    "http://host:port/a",
    "http://",
    "ftp://host/a",
    "http://ho st/a",
    "https://exämple.org/a",
    "",
    "a" * 3000,
]
REFS = [
    "--upload-pack=touch {canary}",
    "-x",
    "a..b",
    "a b",
    "a\nb",
    "a\0b",
    "a~1",
    "a^{{}}",
    "a:b",
    "@{{-1}}",
    "",
    "x" * 300,
]


@pytest.mark.parametrize("url", URLS)
async def test_a_hostile_address_starts_nothing(internal: Internal, url: str, tmp_path: Path) -> None:
    request = build_request(url.format(canary=tmp_path / "canary"))

    with pytest.raises(DeploymentError) as refused:
        await internal.start_build(request)

    assert refused.value.code == ErrorCode.INVALID_REQUEST
    assert not (internal.root / "builds").exists()
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("ref", REFS)
async def test_a_hostile_ref_starts_nothing(internal: Internal, ref: str, tmp_path: Path) -> None:
    request = build_request("http://127.0.0.1:1/x", ref=ref.format(canary=tmp_path / "canary"))

    with pytest.raises(DeploymentError) as refused:
        await internal.start_build(request)

    assert refused.value.code == ErrorCode.INVALID_SOURCE_REF
    assert not (internal.root / "builds").exists()


async def test_hooks_and_filters_of_a_repository_do_not_run(
    internal: Internal, repository: MakeRepository, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    source = repository(
        {"index.html": "x", ".gitattributes": "* filter=evil\n", ".githooks/post-checkout": f"touch {canary}"}
    )
    source.git("config", "filter.evil.smudge", f"touch {canary}")

    _, last, _ = await build(internal, build_request(source.url))

    assert last.stage == "built"
    assert not canary.exists()


def test_an_address_without_credentials_keeps_the_rest() -> None:
    assert split_credentials("https://ada:se%2Fcret@host:8443/a?b") == ("https://host:8443/a?b", "ada:se/cret")
    assert split_credentials("git@host:a/b") == ("git@host:a/b", None)


@pytest.mark.parametrize("host", [*NO_HOSTS, *NOWHERE])
def test_a_repository_at_a_host_that_is_none_is_an_error_of_ours(host: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        remote_of(f"https://{host}/a/b.git", {}, allow_private_addresses=True)
    assert refused.value.code in {ErrorCode.INVALID_REQUEST, ErrorCode.PROVIDER_ERROR}
