"""Asks a repository's server what a ref means now, without fetching anything."""

import asyncio
import contextlib
import subprocess

from domain.source import check_source_ref, is_commit
from providers.internal.git import REF_LINE, Remote, names_of

_SECONDS = 30


async def commit_of(remote: Remote, ref: str) -> str | None:
    """The commit; None when the server does not know the ref, or does not say so in time."""
    check_source_ref(ref)
    if is_commit(ref) and len(ref) >= 40:
        return ref
    names = [f"{name}{peeled}" for name in names_of(ref) for peeled in ("^{}", "")]
    process = await asyncio.create_subprocess_exec(
        *("git", "ls-remote", "--quiet", "--", remote.url, *names),
        env=remote.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    advertised = {name: commit for commit, name in REF_LINE.findall(said.decode("utf-8", "replace"))}
    return next((advertised[name] for name in names if name in advertised), None)
