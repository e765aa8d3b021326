"""Files of a directory, handed over to Netlify: first their digests, then those that it does not have yet."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

from domain.errors import DeploymentError, ErrorCode
from providers.netlify.api import Api
from providers.netlify.calls import UPLOAD
from providers.netlify.pace import Pace

AT_ONCE = 5
_CHUNK = 256 * 1024
_REFUSED = frozenset("#?")
"""Characters that Netlify takes in no name of a file."""


def digests(directory: Path) -> dict[str, str]:
    """The SHA-1 of each file, by its path. Blocks.

    Raises:
        DeploymentError: build-failed, for what Netlify does not take.
    """
    found = {path: _digest(directory / path) for path in _paths(directory)}
    if not found:
        raise DeploymentError(ErrorCode.BUILD_FAILED, "there is nothing to publish: what was built has no files")
    wrong = next((path for path in found if _REFUSED.intersection(path)), None)
    if wrong is not None:
        message = f"the file {wrong[:200]!r} is refused: netlify takes no names with '#' or '?'"
        raise DeploymentError(ErrorCode.BUILD_FAILED, message)
    return found


async def upload(api: Api, build_id: str, directory: Path, wanted: set[str], pace: Pace) -> None:
    """All files with one of the digests that are wanted, some at once.

    Raises:
        DeploymentError: that of the first file that could not be handed over; which are done, Netlify knows.
    """
    by_path = await asyncio.to_thread(digests, directory)
    paths = iter([path for path, digest in by_path.items() if digest in wanted])

    async def upload_some() -> None:
        for path in paths:
            await _upload(api, build_id, directory, path, pace)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(upload_some())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _upload(api: Api, build_id: str, directory: Path, path: str, pace: Pace) -> None:
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str((directory / path).stat().st_size)}
    pauses = iter(pace.uploads)
    while True:
        try:
            await api.call(UPLOAD, id=build_id, path=path, content=_content(directory / path), headers=headers)
        except DeploymentError as error:
            # A limit is no failed try: it says when to come again.
            pause = 0 if error.code == ErrorCode.RATE_LIMITED else next(pauses, None)
            if not error.retryable or pause is None:
                raise
            await asyncio.sleep(max(pause, error.retry_after_seconds or 0))
        else:
            return


async def _content(file: Path) -> AsyncGenerator[bytes, None]:
    with file.open("rb") as reader:
        while chunk := await asyncio.to_thread(reader.read, _CHUNK):
            yield chunk


def _paths(directory: Path) -> Iterator[str]:
    """Plain files alone; a symbolic link leads nowhere."""
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(directory).as_posix()


def _digest(file: Path) -> str:
    with file.open("rb") as reader:
        return hashlib.file_digest(reader, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
