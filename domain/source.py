"""Which refs and repository addresses are accepted. Pure grammar: what passes is still handed to git after `--`.

Sources: git-check-ref-format(1) for refs, gitprotocol documentation and git's `protocol.allow` for addresses.
"""

import re
from fnmatch import fnmatchcase
from urllib.parse import unquote, urlsplit

from domain.errors import DeploymentError, ErrorCode

MAX_REF = 255
SCHEMES = ("https", "http", "ssh", "git")
"""Protocols that fetch from another host and run no helper of the caller's choosing. `file` and `ext` are not here."""

GIT_TOKEN = "GIT_TOKEN"  # noqa: S105  # the name of a secret
"""What git shows to the repository's server: a token, or `user:password`."""

_PORTS = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
_REF_REFUSED = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|\.$|/$|^/|^\.|^-|^@$")
_COMMIT = re.compile(r"[0-9a-f]{7,40}|[0-9a-f]{64}")
_SCP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[A-Za-z0-9_~/][^\s]*")
_HOST = re.compile(r"(.*@)?([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(:[0-9]*)?")


def check_source_ref(ref: str) -> str:
    """`ref` when it could name a branch, tag or commit.

    Raises:
        DeploymentError: invalid-source-ref, by the rules of git-check-ref-format(1).
    """
    if not ref or len(ref) > MAX_REF or _REF_REFUSED.search(ref) or not ref.isprintable():
        raise DeploymentError(
            ErrorCode.INVALID_SOURCE_REF,
            f"{ref[:80]!r} is not a ref: accepted is the name of a branch or tag as git allows it "
            f"(no leading '-', no spaces, '..' or '~^:?*[\\', at most {MAX_REF} characters)"
            " or a commit id of 7 to 40 hex digits",
            fields=[("/sourceRef", "not a branch, tag or commit id")],
        )
    return ref


def is_commit(ref: str) -> bool:
    """Whether `ref` reads as a full or short commit id. A branch of that name still wins where it exists."""
    return bool(_COMMIT.fullmatch(ref))


def check_repository_url(url: str) -> str:
    """`url` when git may fetch from it: http, https, ssh, git or `user@host:path`.

    Raises:
        DeploymentError: invalid-request.
    """
    if _acceptable(url):
        return url
    accepted = ", ".join(f"{scheme}://host/path" for scheme in SCHEMES)
    raise DeploymentError(
        ErrorCode.INVALID_REQUEST,
        f"{url[:80]!r} is not a repository address: accepted are {accepted} and user@host:path",
        fields=[("/repositoryUrl", "not an address that git may fetch from")],
    )


def split_credentials(url: str) -> tuple[str, str | None]:
    """An http address without user and password, and these as `user:password`; others as they are (ssh needs its
    user)."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or "@" not in parts.netloc:
        return url, None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return bare, f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"


def repository_key(url: str) -> str | None:
    """The same text for all addresses of one repository: `host/path`, with a port where it is not the protocol's own.

    In lower case: git hosts that send webhooks do not tell repositories apart by case. None for what is no address.
    """
    if not _acceptable(url):
        return None
    if "://" not in url:
        host, _, path = url.partition("@")[2].partition(":")
    else:
        parts = urlsplit(url)
        port = "" if parts.port in {None, _PORTS[parts.scheme]} else f":{parts.port}"
        host, path = f"{parts.hostname}{port}", parts.path
    return f"{host}/{path.strip('/').removesuffix('.git')}".lower()


def branch_matches(branch: str, patterns: list[str]) -> bool:
    """`*` stands for any characters, `/` among them, as in GitLab's protected branches."""
    return any(fnmatchcase(branch, pattern) for pattern in patterns)


def _acceptable(url: str) -> bool:
    if len(url) > 2048 or not url.isprintable() or " " in url or not url.isascii():
        return False
    if _SCP.fullmatch(url):
        return True
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError when it is not a number
    except ValueError:
        return False
    # A user or host that starts with '-' would be read as an option by ssh.
    names_fine = bool(_HOST.fullmatch(parts.netloc)) and not (parts.username or "").startswith("-")
    return parts.scheme in SCHEMES and names_fine and len(parts.path) > 1
