"""The commands about the audit: who changed what, all of it as JSON lines, and whether it is as it was written."""

import sys
from contextlib import aclosing
from datetime import datetime
from typing import Annotated

import typer

from client import show
from client.client import DeploymentsClient
from client.command import Json, calling, console, errors, request, write_json
from domain.audit import AuditEntry, AuditQuery
from domain.page import PageRequest

audit_app = typer.Typer(help="The audit: who changed what.", invoke_without_command=True)

ProjectOption = Annotated[str | None, typer.Option("--project", "-p", help="Of this project alone.")]


@audit_app.callback()
def list_audit(
    context: typer.Context,
    *,
    project: ProjectOption = None,
    actor: Annotated[str | None, typer.Option(help="A token's subject, SENDER:NAME, or headway.")] = None,
    action: Annotated[str | None, typer.Option(help="Such as deployment.trigger.")] = None,
    since: Annotated[str | None, typer.Option(help="Such as 2026-11-23T08:30:00Z.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100)] = 20,
    export: Annotated[bool, typer.Option("--export", help="All that match as JSON lines, oldest first.")] = False,
    as_json: Json = False,
) -> None:
    """Show who changed what, newest first."""
    if context.invoked_subcommand is not None:
        return
    wanted = request(AuditQuery, project_id=project, actor=actor, action=action, since=since and _moment(since))
    if export:
        calling(lambda client: _export(client, wanted))
        return
    found = calling(lambda client: client.list_audit(wanted, PageRequest(limit=limit)))
    write_json(found) if as_json else show.show_audit(console, found.items)


@audit_app.command("verify")
def verify_audit(
    project: ProjectOption = None,
    anchor: Annotated[list[str] | None, typer.Option(help="What verify said earlier; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Check that each entry is there, unchanged and in its place; the exit code is 1 where one is not."""
    report = calling(lambda client: client.verify_audit(project, anchor or []))
    if as_json:
        write_json(report)
    else:
        for chain in report.chains:
            console.print(show.plain(chain.anchor))
        errors.print(show.plain(f"{report.entries} entries, {'all as written' if report.valid else 'NOT as written'}"))
        for fault in report.faults:
            errors.print(show.plain(f"{fault.where}: {fault.what}", "red"))
    raise typer.Exit(0 if report.valid else 1)


async def _export(client: DeploymentsClient, wanted: AuditQuery) -> None:
    async with aclosing(client.export_audit(wanted)) as entries:
        async for entry in entries:
            sys.stdout.write(_line(entry))


def _line(entry: AuditEntry) -> str:
    return entry.model_dump_json(by_alias=True) + "\n"


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time; accepted: as in RFC 3339", param_hint="--since") from None
