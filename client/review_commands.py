"""The commands of those who let deployments through, and take them back: approve, reject, rollback."""

from typing import Annotated

import typer

from client import show
from client.command import Json, calling, console, write_json
from domain.deployment import RollbackPreview
from domain.protection import DecisionRequest

DeploymentId = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="The deployment's id.")]
Comment = Annotated[str | None, typer.Option("--comment", "-m", help="Kept with the decision.")]


def approve(deployment: DeploymentId, comment: Comment = None, as_json: Json = False) -> None:
    """Approve a deployment that waits for it."""
    said = DecisionRequest(comment=comment)
    approved = calling(lambda client: client.approve_deployment(deployment, said))
    waits = f"it still waits: {approved.waiting_reason or approved.waiting_on}" if approved.waiting_on else "it may go"
    write_json(approved) if as_json else console.print(show.plain(waits))


def reject(deployment: DeploymentId, comment: Comment = None, as_json: Json = False) -> None:
    """Reject a deployment that waits for approval: it is canceled."""
    said = DecisionRequest(comment=comment)
    rejected = calling(lambda client: client.reject_deployment(deployment, said))
    write_json(rejected) if as_json else console.print(show.plain("it is rejected"))


def show_preview(preview: RollbackPreview) -> None:
    console.print(show.plain(f"back to {preview.target.id} ({preview.target.source_ref})"))
    for change in preview.changes:
        console.print(show.plain(f"  {change.path}: {change.before or '-'} → {change.after or '-'}"))
    if preview.held_ref:
        console.print(show.plain(f"afterwards {preview.held_ref} waits for approval here", "dim"))
