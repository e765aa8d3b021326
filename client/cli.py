"""The commands that talk to the service.

Rules: results go to standard output, anything else to standard error; with `--json` the output is one JSON document,
or JSON lines where it goes on. Exit codes: 0 succeeded, 1 failed or any error, 2 usage, 3 canceled, 4 timeout.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from client import show
from client.audit_commands import audit_app
from client.client import DeploymentsClient
from client.command import Json, calling, console, request, warn, write_json
from client.follow import relay, watch
from client.log_commands import logs_app
from client.project_commands import env_app, project_app
from client.review_commands import approve, reject, show_preview
from client.secret_commands import secrets_app
from client.token_commands import tokens_app
from domain.configuration import ConfigurationChange
from domain.deployment import Deployment, ListDeploymentsOptions, RetryRequest, TriggerDeploymentRequest
from domain.errors import DeploymentError, ErrorCode
from domain.page import PageRequest
from domain.states import Status

app = typer.Typer(help="Deploys sites, and shows how that goes.", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(project_app, name="project")
app.add_typer(env_app, name="env")
app.add_typer(secrets_app, name="secrets")
app.add_typer(logs_app, name="logs")
app.add_typer(audit_app, name="audit")
app.add_typer(tokens_app, name="tokens")
app.command()(approve)
app.command()(reject)

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Stay until it has ended; the exit code says how.")]
ProjectId = Annotated[str, typer.Option("--project", "-p", help="The project's id.")]
DeploymentId = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="The deployment's id.")]


@app.command()
def deploy(
    *,
    project: ProjectId,
    ref: Annotated[str, typer.Option("--ref", "-r", help="Branch, tag or commit id.")],
    env: Annotated[str | None, typer.Option("--env", "-e", help="The environment's name; else the default.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="To the preview environment of the branch.")] = False,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Why, for those who read the list.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Start beside a deployment that runs.")] = False,
    concurrency: Annotated[str | None, typer.Option(help="reject, queue, supersede or parallel, this once.")] = None,
    break_glass: Annotated[str | None, typer.Option(help="Why no rule may keep it; for admins.")] = None,
    follow: Follow = False,
    as_json: Json = False,
) -> None:
    """Deploy a ref of a project."""
    wanted = request(
        TriggerDeploymentRequest,
        project_id=project,
        source_ref=ref,
        preview=preview or None,
        configuration=request(ConfigurationChange, environment=env) if env else None,
        message=message,
        force=force or None,
        concurrency=concurrency,
        break_glass=break_glass,
    )
    _begin(lambda client: client.trigger_deployment(wanted), follow=follow, as_json=as_json)


@app.command()
def retry(
    deployment: DeploymentId,
    ref: Annotated[str | None, typer.Option("--ref", "-r", help="Another ref than before.")] = None,
    follow: Follow = False,
    as_json: Json = False,
) -> None:
    """Deploy once more what did not succeed."""
    overrides = request(RetryRequest, source_ref=ref)
    _begin(lambda client: client.retry_deployment(deployment, overrides), follow=follow, as_json=as_json)


@app.command()
def rollback(
    deployment: DeploymentId,
    *,
    to: Annotated[str | None, typer.Option("--to", help="The deployment to go back to; else the one before.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    follow: Follow = False,
    as_json: Json = False,
) -> None:
    """Go back to an earlier deployment, with its configuration and its secrets."""
    if dry_run:
        preview = calling(lambda client: client.preview_rollback(deployment, to))
        write_json(preview) if as_json else show_preview(preview)
        return
    _begin(lambda client: client.rollback(deployment, to), follow=follow, as_json=as_json)


def _begin(start: Callable[[DeploymentsClient], Awaitable[Deployment]], *, follow: bool, as_json: bool) -> None:
    async def work(client: DeploymentsClient) -> int:
        begun = await start(client)
        warn(begun.warnings)
        if follow:
            ended = await (relay(client, begun) if as_json else watch(client, begun, console))
            return show.EXIT_CODE_OF[ended.status]
        write_json(begun) if as_json else console.print(show.plain(begun.id))
        return 0

    raise typer.Exit(calling(work))


@app.command("show")
def show_one(deployment: DeploymentId, as_json: Json = False) -> None:
    """One deployment."""
    found = calling(lambda client: client.get_deployment(deployment))
    if found is None:
        raise DeploymentError(ErrorCode.NOT_FOUND, f"there is no deployment {deployment}")
    write_json(found) if as_json else show.show_deployment(console, found)


@app.command("list")
def list_some(
    project: ProjectId,
    status: Annotated[list[Status] | None, typer.Option("--status", "-s", help="Those alone; may be repeated.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100)] = 20,
    as_json: Json = False,
) -> None:
    """The newest deployments of a project."""
    options = ListDeploymentsOptions(status=status or [])
    found = calling(lambda client: client.list_deployments(project, options, PageRequest(limit=limit)))
    write_json(found) if as_json else show.show_deployments(console, found.items)


@app.command()
def cancel(deployment: DeploymentId, as_json: Json = False) -> None:
    """Ask for a deployment to end."""
    asked = calling(lambda client: client.cancel_deployment(deployment))
    write_json(asked) if as_json else console.print(show.plain("it is being canceled"))
