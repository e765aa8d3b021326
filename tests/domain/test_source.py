"""Refs and repository addresses: what is accepted and what never reaches git."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import DeploymentError, ErrorCode
from domain.source import check_repository_url, check_source_ref, is_commit

REFS = ["main", "release/1.2", "v1.0.0", "feature/äöü", "a" * 255, "0123abc", "f" * 40, "dependabot/npm_and_yarn/x-1.2"]
BAD_REFS = [
    "",
    "-x",
    "--upload-pack=touch /tmp/pwned",
    "a b",
    "a..b",
    "a~1",
    "a^",
    "a:b",
    "a?",
    "a*",
    "a[b",
    "a\\b",
    "a\nb",
    "a\x00b",
    "/a",
    "a/",
    "a//b",
    ".a",
    "a/.b",
    "a.lock",
    "a.lock/b",
    "a.",
    "@",
    "a@{1}",
    "a" * 256,
    "a\x7fb",
    "a\u202eb",
    "a\u2028b",
]
URLS = [
    "https://git.example.org/team/site.git",
    "http://127.0.0.1:8080/site/.git",
    "ssh://git@git.example.org:22/a/b.git",
    "git://git.example.org/a",
    "git@git.example.org:team/site.git",
    "https://user:pass@git.example.org/a",
    "http://[::1]/a",
]
BAD_URLS = [
    "",
    "ext::sh -c touch% /tmp/pwned",
    "file:///etc",
    "/etc",
    "../x",
    "-oProxyCommand=x",
    "ssh://-oProxyCommand=x/y",
    "ssh://-x@host/y",
    "git@-host:path",
    "-u@host:path",
    "git@host:-x",
    "https://",
    "https://host",
    "https://host/",
    "ftp://h/a",
    "https://host/a b",
    "https://host/a\nb",
    "https://host/\x00",
    "https://ho st/a",
    "https://host:port/a",
    "fd::17/x",
    "a" * 3000,
    "transport::address",
    "https://h\u043est/a",
    "javascript:alert(1)",
]


@pytest.mark.parametrize("ref", REFS)
def test_a_ref_as_git_allows_it_is_accepted(ref: str) -> None:
    assert check_source_ref(ref) == ref


@pytest.mark.parametrize("ref", BAD_REFS)
def test_what_is_no_ref_is_refused_with_what_would_be(ref: str) -> None:
    with pytest.raises(DeploymentError, match="accepted is") as refused:
        check_source_ref(ref)
    assert refused.value.code is ErrorCode.INVALID_SOURCE_REF


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_what_is_accepted_git_accepts_too(ref: str) -> None:
    try:
        check_source_ref(ref)
    except DeploymentError:
        return
    done = subprocess.run(["git", "check-ref-format", "--branch", ref], capture_output=True, check=False)
    assert done.returncode == 0 or ref == "HEAD"


@pytest.mark.parametrize(("ref", "commit"), [("f" * 40, True), ("abc1234", True), ("abc123", False), ("main", False)])
def test_a_commit_id_is_told_from_a_name(ref: str, commit: bool) -> None:
    assert is_commit(ref) is commit


@pytest.mark.parametrize("url", URLS)
def test_an_address_on_another_host_is_accepted(url: str) -> None:
    assert check_repository_url(url) == url


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_address_that_runs_or_reads_something_here_is_refused(url: str) -> None:
    with pytest.raises(DeploymentError, match="accepted are") as refused:
        check_repository_url(url)
    assert refused.value.code is ErrorCode.INVALID_REQUEST
