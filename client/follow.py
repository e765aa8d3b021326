"""Watches one deployment on a terminal or for a program: its log as it comes, its status as it changes."""

import asyncio
from contextlib import aclosing

from rich.console import Console
from rich.status import Status as StatusLine
from rich.text import Text

from client.client import DeploymentsClient
from client.command import write_line
from client.log_view import LogPrinter
from client.show import plain, show_failure, status_text
from domain.deployment import Deployment
from domain.errors import DeploymentError, ErrorCode


async def watch(client: DeploymentsClient, deployment: Deployment, console: Console) -> Deployment:
    """Log lines above, a line with the status below; returns the deployment as it ended."""
    with console.status(_headline(deployment)) as line:
        log = asyncio.create_task(_print_log(client, deployment.id, console))
        try:
            ended = await _print_status(client, deployment.id, console, line)
            await log
        finally:
            log.cancel()
    _print_end(console, ended)
    return ended


async def relay(client: DeploymentsClient, deployment: Deployment) -> Deployment:
    """The same as JSON lines on standard output: `{"deployment": …}` for each change, `{"log": …}` for each line."""
    log = asyncio.create_task(_relay_log(client, deployment.id))
    try:
        ended = None
        async with aclosing(client.follow_deployment(deployment.id)) as changes:
            async for ended in changes:
                write_line("deployment", ended)
        await log
    finally:
        log.cancel()
    return _really_ended(ended, deployment.id)


async def _print_log(client: DeploymentsClient, deployment_id: str, console: Console) -> None:
    printer = LogPrinter(console)
    async with aclosing(client.stream_logs(deployment_id)) as lines:
        async for line in lines:
            printer.show(line)


async def _relay_log(client: DeploymentsClient, deployment_id: str) -> None:
    async with aclosing(client.stream_logs(deployment_id)) as lines:
        async for line in lines:
            write_line("log", line)


async def _print_status(
    client: DeploymentsClient, deployment_id: str, console: Console, line: StatusLine
) -> Deployment:
    ended, shown = None, ""
    async with aclosing(client.follow_deployment(deployment_id)) as changes:
        async for ended in changes:
            line.update(_headline(ended))
            if not console.is_terminal and shown != status_text(ended).plain:
                shown = status_text(ended).plain
                console.print(plain(f"  status {shown}"))
    return _really_ended(ended, deployment_id)


def _really_ended(last: Deployment | None, deployment_id: str) -> Deployment:
    if last is None or not last.ended:
        raise DeploymentError(ErrorCode.INTERNAL, f"the events of {deployment_id} ended before it did")
    return last


def _headline(deployment: Deployment) -> Text:
    where = f"{deployment.project_id} {deployment.configuration.environment} no. {deployment.sequence}: "
    return Text.assemble(plain(where), status_text(deployment))


def _print_end(console: Console, deployment: Deployment) -> None:
    took = "" if deployment.duration is None else f" after {deployment.duration:.1f} s"
    console.print(status_text(deployment).append(took))
    if deployment.deployment_url:
        console.print(plain(deployment.deployment_url, "bold"), soft_wrap=True)
    show_failure(console, deployment)
