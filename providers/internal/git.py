"""Fetches one commit of a repository into an empty directory.

Rules:
1. git is told what to do by its environment, where no other user reads it: credentials are never in an argument list.
2. It fetches by http, https, ssh and git, runs no hook, filter or helper, asks nobody, and follows no redirect where
   private addresses are refused: it connects to the address that was checked.
3. A branch wins over a tag, a tag over a commit id.
4. A server that was read before and is out of reach is waited for, as long as the build may take. One that never was is
   tried a few times: more likely its address is wrong.
"""

import base64
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from domain.deployment import Repository
from domain.errors import DeploymentError, ErrorCode
from domain.source import GIT_TOKEN, check_repository_url, check_source_ref, is_commit, split_credentials
from providers.addresses import check_host
from providers.internal.steps import Steps

"""A secret of this name is shown to the repository's server over https, and to nobody else."""

_PORTS = {"http": 80, "https": 443, "ssh": 22, "git": 9418}
_TRIES = 3
_LONGEST_PAUSE_SECONDS = 15.0
_LISTED_BRANCHES = 20
_LONGEST_MESSAGE = 10_000

_SETTINGS = {
    "protocol.allow": "never",
    **{f"protocol.{scheme}.allow": "always" for scheme in _PORTS},
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "credential.helper": "",
    "gc.auto": "0",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    "safe.directory": "*",
    "submodule.recurse": "false",
}

_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
}

_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=15 -o StrictHostKeyChecking=accept-new -o ProxyCommand=none"

_TRANSIENT = re.compile(
    r"resolve host|failed to connect|connection (timed out|reset|refused)|timed out|too slow|error: (429|5\d\d)"
    r"|early eof|rpc failed|unexpected disconnect|hung up|transfer closed|empty reply|ssl_error_syscall|handshake",
    re.IGNORECASE,
)
_REDIRECT = re.compile(r"redirect|error: 30\d", re.IGNORECASE)
REF_LINE = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})\t(\S+)$", re.MULTILINE)
_COMMIT_TEXT = re.compile(r"([0-9a-f]{40,64})\0([^\0]*)\0(.*)", re.DOTALL)


Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Remote:
    """A repository as git is told of it: an address without credentials, and the environment that carries the rest."""

    url: str
    environment: dict[str, str]


class Patience:
    """With a repository's server that is out of reach. `known`: it has been read before. `tell` hears what is waited
    for, and None when no more."""

    def __init__(self, steps: Steps, *, known: bool, tell: Callable[[str | None], None]) -> None:
        self._steps = steps
        self._known = known
        self._tell = tell

    def until(self, step: Callable[[], Outcome]) -> Outcome:
        """What the step gives, once it does not say provider-error.

        Raises:
            DeploymentError: provider-error after some tries; timeout or canceled, when the build has to end.
        """
        for attempt in itertools.count(1):
            try:
                outcome = step()
            except DeploymentError as away:
                if away.code != ErrorCode.PROVIDER_ERROR or (attempt >= _TRIES and not self._known):
                    raise
                self._wait(attempt, away.message)
            else:
                self._tell(None)
                return outcome
        raise AssertionError  # it counts for ever

    def _wait(self, attempt: int, why: str) -> None:
        if attempt <= _TRIES:
            self._steps.log.write("clone", f"{why}; trying again")
            self._steps.log.flush(at_once=True)
        self._tell(why)
        try:
            self._steps.pause(min(attempt, _LONGEST_PAUSE_SECONDS))
        except DeploymentError as ended:
            if ended.code != ErrorCode.TIMEOUT:
                raise
            raise DeploymentError(ErrorCode.TIMEOUT, f"{ended.message}; {why}") from None


class Checkout:
    def __init__(self, steps: Steps, remote: Remote, directory: Path, patience: Patience) -> None:
        self.steps = steps
        self.remote = remote
        self.directory = directory
        self.patience = patience

    def fetch(self, ref: str, commit: str | None) -> Repository:
        """Leaves the files of `commit`, else of what `ref` means now.

        Raises:
            DeploymentError: invalid-source-ref, invalid-request, or provider-error when the server is out of reach.
        """
        check_source_ref(ref)
        self._git("init", "--quiet", ".")
        fetched = self._fetch_ref(ref) if commit is None else self._fetch_commit(check_source_ref(commit))
        code, said = self._git("checkout", "--quiet", "--detach", fetched)
        if code != 0:
            raise DeploymentError(ErrorCode.BUILD_FAILED, f"git cannot check {ref!r} out: {_last_line(said)}")
        self._refuse_what_is_elsewhere()
        return self._describe(ref)

    def _fetch_ref(self, ref: str) -> str:
        """By which name git knows here what was fetched."""
        advertised = self._advertised(ref, f"refs/heads/{ref}", f"refs/tags/{ref}")
        name = next((name for name in names_of(ref) if name in advertised), None)
        if name is not None:
            return self._fetch_name(name)
        if is_commit(ref):
            return self._fetch_commit(ref)
        raise self._unknown(ref)

    def _fetch_name(self, name: str) -> str:
        # Servers that only hand out files ("dumb" HTTP) cannot cut the history off.
        for options in (["--depth", "1"], []):
            code, said = self._network("fetch", "--quiet", "--no-tags", *options, "--", self.remote.url, name)
            if code == 0:
                return "FETCH_HEAD"
        raise self._unreadable(said)

    def _fetch_commit(self, commit: str) -> str:
        if len(commit) >= 40:
            code, _ = self._network("fetch", "--quiet", "--no-tags", "--depth", "1", "--", self.remote.url, commit)
            if code == 0:
                return "FETCH_HEAD"
        # A short id, or a server that hands out branches and tags alone: all of them, then we look.
        everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
        code, said = self._network("fetch", "--quiet", "--", self.remote.url, *everything)
        if code != 0:
            raise self._unreadable(said)
        code, said = self._git("rev-parse", "--quiet", "--verify", "--end-of-options", f"{commit}^{{commit}}")
        if code != 0:
            raise self._unknown(commit)
        return said.split()[-1]

    def _advertised(self, *patterns: str) -> dict[str, str]:
        """Refs of the server whose names end with one of the patterns."""
        code, said = self._network("ls-remote", "--quiet", "--", self.remote.url, *patterns)
        if code != 0:
            raise self._unreadable(said)
        return {name: commit for commit, name in REF_LINE.findall(said)}

    def _unknown(self, ref: str) -> DeploymentError:
        branches = [name.removeprefix("refs/heads/") for name in self._advertised("refs/heads/*")]
        shown = ", ".join(branches[:_LISTED_BRANCHES]) or "none"
        more = f" and {len(branches) - _LISTED_BRANCHES} more" if len(branches) > _LISTED_BRANCHES else ""
        return DeploymentError(
            ErrorCode.INVALID_SOURCE_REF,
            f"{self.remote.url} has no branch, tag or commit {ref!r}; its branches: {shown}{more}",
        )

    def _unreadable(self, said: str) -> DeploymentError:
        hint = "see that the address is right; a repository that is not public needs a secret GIT_TOKEN and https"
        if _REDIRECT.search(said):
            hint = "the address leads on to another one, which is not followed: give that one"
        message = f"{self.remote.url} cannot be read: {_last_line(said)}"
        return DeploymentError(ErrorCode.INVALID_REQUEST, message, details={"hint": hint})

    def _refuse_what_is_elsewhere(self) -> None:
        """Files that are not in the repository itself would silently be missing."""
        code, _ = self._git("config", "--blob", "HEAD:.gitmodules", "--get-regexp", r"^submodule\..*\.path$")
        if code == 0:
            raise _unsupported("submodules", ".gitmodules", "add those files to the repository itself")
        _, stored = self._git("ls-files", "--", ":(attr:filter=lfs)")
        if stored.strip():
            raise _unsupported("Git LFS", f"{stored.splitlines()[0]!r}", "add those files without LFS")

    def _describe(self, ref: str) -> Repository:
        _, said = self._git("log", "-1", "--no-show-signature", "--format=%H%x00%an%x00%B", "HEAD")
        found = _COMMIT_TEXT.search(said)
        if found is None:
            raise DeploymentError(ErrorCode.BUILD_FAILED, f"git cannot read the commit of {ref!r}: {_last_line(said)}")
        commit, author, message = found.groups()
        text = message.strip()[:_LONGEST_MESSAGE]
        return Repository(url=self.remote.url, branch=ref, commit=commit, author=author, message=text)

    def _network(self, *arguments: str) -> tuple[int, str]:
        """A command that talks to the server, tried again where trying again may help."""

        def ask() -> tuple[int, str]:
            code, said = self._git(*arguments)
            if code != 0 and _TRANSIENT.search(said):
                message = f"{self.remote.url} is out of reach: {_last_line(said)}"
                raise DeploymentError(ErrorCode.PROVIDER_ERROR, message)
            return code, said

        return self.patience.until(ask)

    def _git(self, *arguments: str) -> tuple[int, str]:
        return self.steps.captured(["git", *arguments], self.remote.environment, self.directory)


def names_of(ref: str) -> list[str]:
    """By which names a server may know it, the one that wins first."""
    exact = [ref] if ref.startswith("refs/") or ref == "HEAD" else []
    return [f"refs/heads/{ref}", f"refs/tags/{ref}", *exact]


def remote_of(url: str, secrets: dict[str, str], *, allow_private_addresses: bool) -> Remote:
    """How to reach a repository; resolves its host and refuses private addresses.

    Raises:
        DeploymentError: invalid-request or provider-error.
    """
    parts = urlsplit(_with_scheme(check_repository_url(url)))
    settings = dict(_SETTINGS)
    bare, credentials = split_credentials(url)
    authorization = _authorization(parts.scheme, credentials, secrets.get(GIT_TOKEN))
    if authorization:
        settings[f"http.{bare}.extraHeader"] = f"Authorization: Basic {authorization}"
    ssh = _SSH
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    addresses = check_host(host, port, allow_private=allow_private_addresses)
    if not allow_private_addresses:
        checked = [f"[{address}]" if isinstance(address, IPv6Address) else str(address) for address in addresses]
        settings |= {"http.followRedirects": "false", "http.curloptResolve": f"{host}:{port}:{','.join(checked)}"}
        ssh += f" -o HostName={addresses[0]} -o HostKeyAlias={host}"
        if parts.scheme == "git":
            bare = parts._replace(netloc=f"{checked[0]}:{port}").geturl()
    return Remote(bare, {**_ENVIRONMENT, "GIT_SSH_COMMAND": ssh, **_as_environment(settings)})


def _with_scheme(url: str) -> str:
    """`user@host:path`, as ssh writes it, as an address."""
    if "://" in url:
        return url
    host, _, path = url.partition(":")
    return f"ssh://{host}/{path.lstrip('/')}"


def _authorization(scheme: str, credentials: str | None, token: str | None) -> str | None:
    """The user and password of the address, else the token; base64. A bare token is not sent in the clear."""
    if token and ":" in token:
        credentials = credentials or token
    elif token and scheme == "https":
        credentials = credentials or f"x-access-token:{token}"
    named = credentials and scheme in {"http", "https"}
    return base64.b64encode(credentials.encode()).decode() if credentials and named else None


def _as_environment(settings: dict[str, str]) -> dict[str, str]:
    numbered = enumerate(settings.items())
    pairs = {
        f"GIT_CONFIG_{part}_{n}": text
        for n, pair in numbered
        for part, text in zip(("KEY", "VALUE"), pair, strict=True)
    }
    return {"GIT_CONFIG_COUNT": str(len(settings)), **pairs}


def _unsupported(what: str, where: str, hint: str) -> DeploymentError:
    message = f"the repository uses {what} ({where}), which are not fetched"
    return DeploymentError(ErrorCode.INVALID_REQUEST, message, details={"hint": hint})


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "git said nothing"
