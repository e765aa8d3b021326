"""A backup of the local stack: a dump of its database, and copies of the files that the database speaks of.

Rules:
1. The database comes first: whatever it knows of is still there when the files are copied.
2. A backup, and what is made of one, appears whole, by renaming.
3. Temporal's file is not in it: what ran is started again from the database.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from store.server import LocalPostgres, ServerError

DUMP = "database.dump"
_FILES = ("secrets", "ports.json", "builder-id", "releases", "sites", "builds", "archive")
_PASSING = {"builds": ("workspace", "home", "tmp", "accounts", "lock", ".*"), "releases": (".*-*", ".hosts")}
"""What a build works with, and what is made of `sites`; everywhere, what is just being made (a dot and a dash)."""


async def make_backup(server: LocalPostgres, data_dir: Path, target: Path) -> None:
    """Raises ServerError, also when `target` is there."""
    with _new_directory(target) as draft:
        await server.dump(draft / DUMP)
        await asyncio.to_thread(_copy, data_dir, draft)


@contextlib.asynccontextmanager
async def restored_files(source: Path, data_dir: Path) -> AsyncIterator[Path]:
    """All but the database, in a directory that becomes `data_dir` after the block.

    Raises:
        ServerError: `source` is no backup, or `data_dir` is there.
    """
    if not (source / DUMP).exists():
        raise ServerError(f"{source} is no backup: it has no {DUMP}")
    with _new_directory(data_dir) as draft:
        await asyncio.to_thread(_copy, source, draft)
        yield draft


@contextlib.contextmanager
def _new_directory(target: Path) -> Iterator[Path]:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ServerError(f"{target} is there already: name a directory that is new")
    target = target.resolve()
    draft = target.with_name(f"{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    yield draft
    draft.rename(target)


def _copy(source: Path, target: Path) -> None:
    for name in _FILES:
        if (source / name).is_dir():
            passing = shutil.ignore_patterns(*_PASSING.get(name, (".*-*",)))
            shutil.copytree(source / name, target / name, symlinks=True, copy_function=_copy_file, ignore=passing)
        elif (source / name).exists():
            shutil.copy2(source / name, target / name)


def _copy_file(source: str, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile, so nobody needs it
        shutil.copy2(source, target)
