"""Which release a host serves, as the edge looks it up: in files that it reads with every request.

Rules:
1. `.hosts/HOST/` beside the releases has an empty file named like the release. The one of the latest time counts.
2. The next one appears before the one of before goes, and that one stays for a change longer: whoever has listed the
   directory finds what was in it.
3. It is made of `Sites`, which is the truth, and can be made of it again.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from providers.internal.builds import remove_tree

HOST = r"[a-z0-9][a-z0-9-]{0,62}(\.[a-z0-9][a-z0-9-]{0,62})+"
"""Labels in lower case, as regular expression of Python and of Caddy: nothing that leads elsewhere as a file name."""

_SECOND = 10**9


def hosts_of(releases: Path) -> Path:
    return releases / ".hosts"


class Hosts:
    """Its callers hold the lock of `Sites`, and give names of hosts that it has checked."""

    def __init__(self, releases: Path) -> None:
        self.root = hosts_of(releases)

    def point(self, host: str, release: str) -> bool:
        """Sends a host to a release, at once and for the requests that begin then; whether it went elsewhere before."""
        directory = self.root / host
        known = _latest_first(directory)
        if known and known[0].name == release:
            return False
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        new = self.root / f".new-{host}"
        new.touch(mode=0o444)
        # A second apart: no file system takes two for simultaneous, and a clock that was set back does no harm.
        latest = max([time.time_ns(), *(entry.stat().st_mtime_ns + _SECOND for entry in known)])
        os.utime(new, ns=(latest, latest))
        new.replace(directory / release)
        for old in known[1:]:
            if old.name != release:
                old.unlink(missing_ok=True)
        return True

    def remove(self, host: str) -> None:
        """In one piece, since the one of before would count for a moment. A host that is not there stays so."""
        directory = self.root / host
        if directory.exists():
            remove_tree(self.root / f".old-{host}")
            directory.rename(self.root / f".old-{host}")
        remove_tree(self.root / f".old-{host}")

    def tell(self, releases: Mapping[str, str]) -> bool:
        """Brings all hosts in line with what each is to serve; whether there was something to change."""
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        gone = [entry.name for entry in self.root.iterdir() if entry.is_dir() and entry.name not in releases]
        for host in gone:
            self.remove(host)
        changed = [host for host, release in releases.items() if self.point(host, release)]
        return bool(gone or changed)


def _latest_first(directory: Path) -> list[Path]:
    entries = list(directory.iterdir()) if directory.exists() else []
    return sorted(entries, key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
