"""Reads a fetched repository. What lies there was written by somebody else: links that lead out are not followed."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from domain.errors import DeploymentError, ErrorCode

_LARGEST = 1024 * 1024
_LISTED = 20


class Source:
    """The files of a site: `root` is the directory that it is in, `top` that of its repository."""

    def __init__(self, top: Path, root_directory: str | None = None) -> None:
        self.top = top.resolve()
        self.root = self._inside(root_directory) if root_directory else self.top

    def has(self, path: str) -> bool:
        return self._resolved(path) is not None

    def text(self, path: str) -> str:
        """Empty for what is not there, is no text, or is too large to be a configuration."""
        file = self._resolved(path)
        if file is None or not file.is_file() or file.stat().st_size > _LARGEST:
            return ""
        return file.read_text(encoding="utf-8", errors="replace")

    def json(self, path: str) -> dict[str, Any]:
        try:
            found = json.loads(self.text(path))
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def package(self) -> dict[str, Any]:
        """`package.json`."""
        return self.json("package.json")

    @cached_property
    def dependencies(self) -> frozenset[str]:
        """What `package.json` needs, for building or running."""
        groups = (self.package.get(group) for group in ("dependencies", "devDependencies"))
        return frozenset(name for group in groups if isinstance(group, dict) for name in group)

    @property
    def scripts(self) -> frozenset[str]:
        scripts = self.package.get("scripts")
        return frozenset(scripts) if isinstance(scripts, dict) else frozenset()

    def above(self) -> list["Source"]:
        """This one, then those of the directories above it, up to the repository's."""
        here = [self.root, *self.root.parents]
        steps = here[: here.index(self.top) + 1]
        return [Source(self.top, str(step.relative_to(self.top))) for step in steps]

    def _resolved(self, path: str) -> Path | None:
        found = (self.root / path).resolve()
        return found if found.exists() and found.is_relative_to(self.top) else None

    def _inside(self, path: str) -> Path:
        found = (self.top / path).resolve()
        if found.is_dir() and found.is_relative_to(self.top):
            return found
        raise DeploymentError(
            ErrorCode.INVALID_REQUEST,
            f"rootDirectory {path!r} is not a directory of the repository; there are: {directories(self.top)}",
        )


def directories(path: Path) -> str:
    """Names of the directories there, for a message."""
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) or "none") + more
