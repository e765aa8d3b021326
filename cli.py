"""The console script `headway`: the client's commands, and those that start things here: `up`, `demo`, `doctor`.

Rule: whatever goes wrong is one line on standard error and an exit code, never a traceback.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import httpx
import typer

import stack
from client.cli import app
from client.client import DeploymentsClient
from client.command import console, errors
from client.discovery import nearest_stack, read_stack
from client.follow import watch
from client.show import EXIT_CODE_OF, plain
from domain.configuration import ConfigurationChange
from domain.deployment import Deployment, TriggerDeploymentRequest
from domain.errors import DeploymentError
from domain.project import CreateProjectRequest, UpdateProjectRequest
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


@app.command()
def doctor() -> None:
    """Look at each part of the local stack, and at what builds need on this machine."""
    findings = [*_programs(), *asyncio.run(_parts())]
    for fine, what, remedy in findings:
        mark = "[green]fine[/]   " if fine else "[red]missing[/]"
        console.print(mark, plain(what if fine else f"{what}: {remedy}"))
    raise typer.Exit(0 if all(fine for fine, *_ in findings) else 1)


Finding = tuple[bool, str, str]


def _programs() -> list[Finding]:
    return [(shutil.which("git") is not None, "git", "install it, builds are fetched with it")]


async def _parts() -> list[Finding]:
    path = nearest_stack(Path.cwd())
    if path is None:
        return [(False, "local stack", "none runs in this directory or above it; `headway up` starts one")]
    said = json.loads(path.read_text())
    logs = path.parent / "logs"
    addresses = {
        name: urlsplit(said[key] if "//" in said[key] else f"//{said[key]}").port for name, key in _ADDRESS_OF.items()
    }
    findings = [
        (port is not None and await _listens(port), f"{name} at port {port}", f"see {logs}/{name}.log")
        for name, port in addresses.items()
    ]
    return [*findings, *await _readiness(said["apiUrl"])]


_ADDRESS_OF = {"postgres": "databaseUrl", "temporal": "temporalAddress", "edge": "edgeUrl", "api": "apiUrl"}


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _readiness(api_url: str) -> list[Finding]:
    """What the API says of those that it depends on."""
    async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
        try:
            answer = await http.get(f"{api_url}/readyz")
        except httpx.TransportError as error:
            return [(False, "readiness", f"the API does not answer: {error}")]
    return [(answer.is_success, "the API finds all it needs", answer.text[:300])]


# --- the script ---


def main() -> None:
    try:
        app(prog_name="headway")
    except DeploymentError as error:
        _end(error.message, 1)
    except stack.StackError as error:
        _end(str(error), error.exit_code)


def _end(message: str, code: int) -> NoReturn:
    errors.print(plain(f"headway: {message}", "red"))
    sys.exit(code)


if __name__ == "__main__":
    main()
