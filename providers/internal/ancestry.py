"""Whether a commit has another one in its history, as the repository says it: commits alone are fetched, no files.

Bounded by time and by the size of what is fetched. What cannot be said within these bounds is an error, not a guess.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

from domain.errors import DeploymentError, ErrorCode
from providers.internal.git import Remote, names_of

_SECONDS = 60
_MOST_MIB = 1024
"""A million commits without their files are about half of it."""
_CONFINED = ("sh", "-c", f'ulimit -f {_MOST_MIB * 2048} && exec "$@"', "git")
"""What follows is handed to git as it is; the shell reads nothing of it."""


async def has_in_history(remote: Remote, ref: str, commit: str, wanted: str, room: Path) -> bool:
    """Whether `wanted` is in the history of `commit`, which `ref` meant.

    Raises:
        DeploymentError: provider-error, when that cannot be found out.
    """
    if commit == wanted:
        return True
    await asyncio.to_thread(room.mkdir, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="history-", dir=room, ignore_cleanup_errors=True) as directory:
        try:
            async with asyncio.timeout(_SECONDS):
                return await _History(remote, Path(directory)).holds(ref, commit, wanted)
        except TimeoutError:
            raise _unsaid(f"the history of {remote.url} was not read within {_SECONDS} s") from None


class _History:
    def __init__(self, remote: Remote, directory: Path) -> None:
        self._remote = remote
        self._directory = directory

    async def holds(self, ref: str, commit: str, wanted: str) -> bool:
        await self._git("init", "--quiet", "--bare", ".")
        # A server may give commits by their ids, or branches and tags alone; it may know no filter.
        for name in (commit, *names_of(ref)):
            fetch = ("fetch", "--quiet", "--no-tags", "--filter=tree:0", "--", self._remote.url, name)
            if (await self._git(*fetch))[0] == 0:
                break
        code, said = await self._git("rev-list", "--end-of-options", commit)
        if code != 0:
            raise _unsaid(f"{self._remote.url} does not give the history of {commit[:12]}")
        return wanted.encode() in said.split()

    async def _git(self, *arguments: str) -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            *(*_CONFINED, "git", *arguments),
            cwd=self._directory,
            env={**self._remote.environment, "GIT_NO_LAZY_FETCH": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            said, _ = await process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # git has helpers
            await process.wait()
        return process.returncode or 0, said


def _unsaid(message: str) -> DeploymentError:
    return DeploymentError(ErrorCode.PROVIDER_ERROR, message)
