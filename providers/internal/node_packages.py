"""How a repository's Node packages are installed: its lock file decides, as its authors meant it.

A package manager that is not installed on the builder is fetched from npm's registry into the build's home.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from providers.internal.source import Source

_PINNED = re.compile(r"(npm|pnpm|yarn|bun)@(\d+\.\d+\.\d+)(\+.*)?")
_PNPM_OF_LOCK = {"5": "7", "6": "8", "9": "9"}
_LOCK_FILES = {
    "pnpm-lock.yaml": "pnpm",
    "yarn.lock": "yarn",
    "bun.lock": "bun",
    "bun.lockb": "bun",
    "package-lock.json": "npm",
    "npm-shrinkwrap.json": "npm",
}


@dataclass(frozen=True)
class PackageManager:
    """`package` is where npm finds it when it is not installed."""

    name: str
    install: list[str]
    package: str
    directory: Path

    def bootstrap(self, home: Path) -> list[str]:
        return ["npm", "install", "--global", "--prefix", str(home / ".local"), self.package]


def package_manager(source: Source) -> PackageManager:
    """By the nearest lock file, upwards to the repository's root (workspaces have one for all of them)."""
    for place in source.above():
        found = next((lock for lock in _LOCK_FILES if place.has(lock)), None)
        if found is not None:
            return _locked(place, found)
    return _unlocked(source)


def has_packages(source: Source) -> bool:
    """Whether there is anything to install."""
    return bool(source.dependencies or source.package.get("workspaces") or source.package.get("optionalDependencies"))


def _locked(source: Source, lock: str) -> PackageManager:
    name = _LOCK_FILES[lock]
    version = _pinned(source, name)
    if name == "pnpm":
        version = version or _PNPM_OF_LOCK.get(_lock_version(source.text(lock)), "9")
        return PackageManager("pnpm", ["pnpm", "install", "--frozen-lockfile"], f"pnpm@{version}", source.root)
    if name == "yarn" and "__metadata:" in source.text(lock)[:1000]:
        return PackageManager(
            "yarn", ["yarn", "install", "--immutable"], f"@yarnpkg/cli-dist@{version or '4'}", source.root
        )
    if name == "yarn":
        return PackageManager("yarn", ["yarn", "install", "--frozen-lockfile"], f"yarn@{version or '1'}", source.root)
    if name == "bun":
        return PackageManager("bun", ["bun", "install", "--frozen-lockfile"], f"bun@{version or '1'}", source.root)
    return PackageManager("npm", ["npm", "ci"], "npm", source.root)


def _unlocked(source: Source) -> PackageManager:
    for name in ("pnpm", "yarn", "bun"):
        version = _pinned(source, name)
        if version:
            package = "@yarnpkg/cli-dist" if name == "yarn" and not version.startswith("1.") else name
            return PackageManager(name, [name, "install"], f"{package}@{version}", source.root)
    return PackageManager("npm", ["npm", "install"], "npm", source.root)


def _pinned(source: Source, name: str) -> str | None:
    """The version that `packageManager` of package.json names, where it names this one."""
    match = _PINNED.fullmatch(str(source.package.get("packageManager", "")))
    return match[2] if match and match[1] == name else None


def _lock_version(text: str) -> str:
    match = re.search(r"^lockfileVersion:\s*['\"]?(\d+)", text, re.MULTILINE)
    return match[1] if match else ""
