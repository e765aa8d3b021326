"""The console script `headway`: the client's commands, and those that start things here: `up`, `demo`, `doctor`.

Rule: whatever goes wrong is one line on standard error and an exit code, never a traceback.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import typer

import stack
from client.cli import app
from client.client import DeploymentsClient
from client.command import Json, calling, console, errors, write_json
from client.discovery import nearest_stack, read_stack
from client.follow import watch
from client.show import EXIT_CODE_OF, plain, show_checkup
from domain.configuration import ConfigurationChange
from domain.deployment import Deployment, TriggerDeploymentRequest
from domain.errors import DeploymentError
from domain.project import CreateProjectRequest, UpdateProjectRequest
from domain.reconciliation import PartState
from domain.states import Status

EXAMPLE = stack.ROOT / "examples" / "hello-site"

DataDir = Annotated[Path, typer.Option("--data-dir", help="Where the stack keeps everything.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65533, help="The API's; 0 takes free ports for all.")]


@app.command()
def up(data_dir: DataDir = Path(".headway"), port: Port = 8080) -> None:
    """Start the local stack, and stay until Ctrl-C."""
    asyncio.run(_until_asked_to_stop(_up(data_dir, port)))


async def _up(data_dir: Path, port: int) -> None:
    async with stack.running(data_dir, port, console) as local:
        _print_addresses(local.description())
        await _stay(local)


async def _stay(local: stack.Stack) -> None:
    console.print("Ctrl-C stops it all.", style="dim")
    await local.wait()


async def _until_asked_to_stop(work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` until it ends, or until the first SIGINT, SIGTERM or SIGHUP cancels it."""
    task = asyncio.ensure_future(work)
    asked = False

    def ask() -> None:
        nonlocal asked
        if not asked:  # a second Ctrl-C must not cut the stopping short
            asked = True
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    try:
        await task
    except asyncio.CancelledError:
        if not asked:
            raise


def _print_addresses(description: dict[str, Any]) -> None:
    console.print(f"  API        {description['apiUrl']}, described at {description['apiUrl']}/docs")
    console.print(f"  sites      {description['edgeUrl']}, each at its own host name")
    console.print(f"  Temporal   {description['temporalUiUrl']}")


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="A directory that is new.")], data_dir: DataDir = Path(".headway")
) -> None:
    """Copy what a running local stack keeps: database, releases, sites, archived logs, and its keys."""
    asyncio.run(stack.backup(data_dir, target))
    console.print(f"The backup is in {target}. It holds the keys of its secrets: keep it as you keep those.")


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="What `headway backup` made.")], data_dir: DataDir = Path(".headway")
) -> None:
    """Make a data directory of a backup; `headway up` goes on from there."""
    asyncio.run(stack.restore(source, data_dir))
    console.print(f"Restored into {data_dir}: start it with `headway up --data-dir {data_dir}`")


# --- demo ---


@app.command()
def demo(
    data_dir: DataDir = Path(".headway"),
    port: Port = 8080,
    leave: Annotated[bool, typer.Option("--exit", help="Stop everything after both deployments.")] = False,
) -> None:
    """Start the local stack and deploy the example site twice."""
    chosen = port if stack.is_free(port) else 0
    asyncio.run(_until_asked_to_stop(_demo(data_dir, chosen, leave=leave)))


async def _demo(data_dir: Path, port: int, *, leave: bool) -> None:
    async with stack.running(data_dir, port, console) as local:
        service = read_stack(local.data_dir / "stack.json")
        site = ExampleSite(local.data_dir / "demo")
        async with site.served() as address, DeploymentsClient(service.url, service.token) as client:
            await _set_up_project(client, address)
            await site.commit("The example as it is")
            await _deploy(client, "first deployment")
            site.change()
            await site.commit("A line about when it was changed")
            ended = await _deploy(client, "second deployment, with a change")
            console.print(f"\n[bold green]The site is at[/] {ended.deployment_url}")
            _print_addresses(local.description())
            if not leave:
                await _stay(local)


class ExampleSite:
    """A git repository of the example, and a server of it on loopback, as any host of repositories would be."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.repository = home / "hello-site"

    @asynccontextmanager
    async def served(self) -> AsyncGenerator[str, None]:
        shutil.copytree(EXAMPLE, self.repository, dirs_exist_ok=True, ignore=shutil.ignore_patterns("dist"))
        await self._git("init", "--quiet", "--initial-branch=main", ".")
        port = stack.free_port()
        server = Path((await self._git("--exec-path")).strip()) / "git-daemon"
        argv = [str(server), "--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}"]
        part = stack.Part("git", [*argv, f"--base-path={self.home}", str(self.home)], ready=lambda: _listens(port))
        keeper = stack.Keeper(part, self.home.parent, [], lambda _: None)
        try:
            await keeper.becomes_ready()
            yield f"git://127.0.0.1:{port}/{self.repository.name}"
        finally:
            await keeper.stop()

    def change(self) -> None:
        page = self.repository / "pages" / "index.txt"
        page.write_text(page.read_text() + f"\nChanged at {datetime.now().astimezone():%H:%M:%S}.\n")

    async def commit(self, message: str) -> None:
        author = ["-c", "user.name=Headway demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"]
        await self._git("add", "--all")
        await self._git(*author, "commit", "--quiet", "--allow-empty", "--no-verify", f"--message={message}")

    async def _git(self, *arguments: str) -> str:
        """Of git's own settings, those of the user are left out: hooks and filters are none of the demo's business."""
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        pipe = asyncio.subprocess.PIPE
        git = stack.executable("git")
        process = await asyncio.create_subprocess_exec(
            git, *arguments, cwd=self.repository, env=environment, stdout=pipe, stderr=pipe
        )
        said, errors = await process.communicate()
        if process.returncode:
            raise stack.StackError(f"git {arguments[0]} failed: {errors.decode(errors='replace').strip()}")
        return said.decode()


async def _set_up_project(client: DeploymentsClient, address: str) -> None:
    """The address has another port each time."""
    if await client.get_project(EXAMPLE.name) is not None:
        await client.update_project(EXAMPLE.name, UpdateProjectRequest(repository_url=address))
        return
    configuration = ConfigurationChange(build_command="python3 build.py", output_directory="dist")
    await client.create_project(
        CreateProjectRequest(id=EXAMPLE.name, provider="internal", repository_url=address, configuration=configuration)
    )


async def _deploy(client: DeploymentsClient, message: str) -> Deployment:
    console.print(f"\n[bold]{message}[/]")
    # By force: a demo that was cut off may have left a deployment that still runs.
    wanted = TriggerDeploymentRequest(project_id=EXAMPLE.name, source_ref="main", message=message, force=True)
    ended = await watch(client, await client.trigger_deployment(wanted), console)
    if ended.status is not Status.SUCCEEDED:
        raise typer.Exit(EXIT_CODE_OF[ended.status])
    return ended


# --- doctor ---

LITTLE_DISK = 2 * 1024**3
"""Bytes; a build may take 4 GiB."""


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look at each part, set right what does not fit together, and say what was found.

    The exit code is 0 when all is well, 1 when something was found (set right or not), 2 when it could not be asked.
    """
    parts = _local_parts()
    try:
        checkup = calling(lambda client: client.check_up())
    except DeploymentError as error:
        _end("; ".join([error.message, *(f"{part.name}: {part.problem}" for part in parts if part.problem)]), 2)
    checkup = checkup.model_copy(update={"parts": [*parts, *checkup.parts]})
    write_json(checkup) if as_json else show_checkup(console, checkup)
    raise typer.Exit(0 if checkup.well else 1)


def _local_parts() -> list[PartState]:
    """What belongs to the local stack, where it is the one that is asked."""
    path = nearest_stack(Path.cwd())
    if path is None or "HEADWAY_API_URL" in os.environ:
        return []
    free = shutil.disk_usage(path.parent).free
    return [
        _said("git", shutil.which("git") is not None, "install it, builds are fetched with it"),
        _said(f"disk of {path.parent}", free >= LITTLE_DISK, f"only {free / 1024**3:.1f} GiB are free"),
        *asyncio.run(_ports(json.loads(path.read_text()), path.parent / "logs")),
    ]


async def _ports(said: dict[str, Any], logs: Path) -> list[PartState]:
    ports = {
        name: urlsplit(said[key] if "//" in said[key] else f"//{said[key]}").port for name, key in _ADDRESS_OF.items()
    }
    return [
        _said(f"{name} at port {port}", port is not None and await _listens(port), f"see {logs}/{name}.log")
        for name, port in ports.items()
    ]


def _said(name: str, fine: bool, problem: str) -> PartState:
    return PartState(name=name, problem=None if fine else problem)


_ADDRESS_OF = {"postgres": "databaseUrl", "temporal": "temporalAddress", "edge": "edgeUrl", "api": "apiUrl"}


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


# --- the script ---


def main(arguments: Sequence[str] | None = None) -> None:
    """Without `arguments`, those of the process."""
    try:
        app(arguments, prog_name="headway")
    except DeploymentError as error:
        _end(error.message, 1)
    except stack.StackError as error:
        _end(str(error), error.exit_code)


def _end(message: str, code: int) -> NoReturn:
    errors.print(plain(f"headway: {message}", "red"))
    sys.exit(code)


if __name__ == "__main__":
    main()
