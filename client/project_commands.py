"""The commands about projects and their environments.

Rule: a secret's value is never an argument, where every process of the machine could read it.
"""

import json
import os
from typing import Annotated, Any

import typer

from client import show
from client.client import DeploymentsClient
from client.command import Json, calling, console, errors, request, warn, write_json
from client.secret_commands import environment_named
from domain.configuration import ConfigurationChange
from domain.errors import DeploymentError, ErrorCode
from domain.page import PageRequest
from domain.project import CreateEnvironmentRequest, CreateProjectRequest, Environment, UpdateEnvironmentRequest
from domain.protection import Protection

project_app = typer.Typer(help="Projects: what is deployed, and how it is built.", no_args_is_help=True)
env_app = typer.Typer(help="Environments: where a project is deployed to.", no_args_is_help=True)

ProjectOption = Annotated[str, typer.Option("--project", "-p", help="The project's id.")]
Text = str | None


@project_app.command("create")
def create_project(
    *,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="Its id: a-z, 0-9 and '-'.")],
    repository: Annotated[Text, typer.Option(help="Where git fetches it from.")] = None,
    name: Annotated[Text, typer.Option(help="For people; else the id.")] = None,
    provider: Annotated[str, typer.Option(help="Who builds and publishes it.")] = "internal",
    provider_settings: Annotated[Text, typer.Option(help="What the provider wants to know, as JSON.")] = None,
    install_command: Annotated[Text, typer.Option(help="Else recognised.")] = None,
    build_command: Annotated[Text, typer.Option(help="Else recognised.")] = None,
    output_directory: Annotated[Text, typer.Option(help="What the build makes; else recognised.")] = None,
    root_directory: Annotated[Text, typer.Option(help="Of the site, in a repository of several.")] = None,
    framework: Annotated[Text, typer.Option(help="Else recognised.")] = None,
    node_version: Annotated[Text, typer.Option(help="Else the repository's or the newest installed.")] = None,
    variable: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="For the build.")] = None,
    secret: Annotated[list[str] | None, typer.Option(metavar="NAME", help="From the variable of that name.")] = None,
    concurrency: Annotated[Text, typer.Option(help="reject, queue, supersede or parallel.")] = None,
    as_json: Json = False,
) -> None:
    """Create a project; it gets the environment `production`."""
    configuration = request(
        ConfigurationChange,
        install_command=install_command,
        build_command=build_command,
        output_directory=output_directory,
        root_directory=root_directory,
        framework=framework,
        node_version=node_version,
        environment_variables=_variables(variable),
        secrets=_secrets(secret),
    )
    wanted = request(
        CreateProjectRequest,
        id=project,
        name=name,
        provider=provider,
        provider_settings=_json(provider_settings, "--provider-settings"),
        repository_url=repository,
        configuration=configuration,
        concurrency=concurrency,
    )
    made = calling(lambda client: client.create_project(wanted))
    warn(made.warnings)
    write_json(made) if as_json else console.print(show.plain(made.id))


def _variables(said: list[str] | None) -> dict[str, str] | None:
    for one in said or []:
        if "=" not in one:
            raise typer.BadParameter(f"{one!r} is not NAME=VALUE", param_hint="--variable")
    return dict(one.split("=", 1) for one in said) if said else None


def _secrets(names: list[str] | None) -> dict[str, str] | None:
    for name in names or []:
        if name not in os.environ:
            raise typer.BadParameter(f"there is no variable {name} to take it from", param_hint="--secret")
    return {name: os.environ[name] for name in names} if names else None


def _json(said: str | None, option: str) -> Any:
    try:
        return json.loads(said) if said else None
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint=option) from None


@project_app.command("list")
def list_projects(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100)] = 20, as_json: Json = False
) -> None:
    """The newest projects."""
    found = calling(lambda client: client.list_projects(PageRequest(limit=limit)))
    write_json(found) if as_json else show.show_projects(console, found.items)


@project_app.command("show")
def show_project(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project's id.")], as_json: Json = False
) -> None:
    """One project."""
    found = calling(lambda client: client.get_project(project))
    if found is None:
        raise DeploymentError(ErrorCode.PROJECT_NOT_FOUND, f"there is no project {project}")
    write_json(found) if as_json else show.show_project(console, found)


@env_app.command("create")
def create_environment(
    *,
    project: ProjectOption,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Part of the site's host name.")],
    kind: Annotated[str, typer.Option("--type", help="production, staging, preview or development.")] = "preview",
    concurrency: Annotated[Text, typer.Option(help="reject, queue, supersede or parallel; else the project's.")] = None,
    default: Annotated[bool, typer.Option("--default", help="Deployed to where no environment is named.")] = False,
    as_json: Json = False,
) -> None:
    """Create an environment."""
    wanted = request(
        CreateEnvironmentRequest, name=name, type=kind, concurrency=concurrency, is_default=default or None
    )
    made = calling(lambda client: client.create_environment(project, wanted))
    warn(made.warnings)
    write_json(made) if as_json else console.print(show.plain(made.id))


@env_app.command("protect")
def protect_environment(
    *,
    project: ProjectOption,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The environment's name.")],
    approvals: Annotated[int | None, typer.Option(min=0, max=100, help="So many people have to approve.")] = None,
    approver: Annotated[list[str] | None, typer.Option(help="Who may; may be repeated; else all who can.")] = None,
    self_approval: Annotated[bool, typer.Option("--self-approval", help="Whoever triggered may approve, too.")] = False,
    allow_ref: Annotated[list[str] | None, typer.Option(help="Such as main or release/*; may be repeated.")] = None,
    soak: Annotated[int | None, typer.Option(min=0, help="Seconds that a commit has to have run elsewhere.")] = None,
    freeze: Annotated[list[str] | None, typer.Option(metavar="JSON", help="A freeze window; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Say what is demanded before something is deployed here; what is not said is not demanded any more."""
    protection = request(
        Protection,
        required_approvals=approvals,
        approvers=approver,
        allow_self_approval=self_approval,
        allowed_refs=allow_ref,
        minimum_soak=soak,
        freeze_windows=[_json(text, "--freeze") for text in freeze or []],
    )
    _change_environment(project, name, UpdateEnvironmentRequest(protection=protection), as_json=as_json)


@env_app.command("release")
def release_environment(
    project: ProjectOption,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The environment's name.")],
    as_json: Json = False,
) -> None:
    """Lift the hold that a rollback has set on a ref."""
    _change_environment(project, name, UpdateEnvironmentRequest(held_ref=None), as_json=as_json)


@env_app.command("delete")
def delete_environment(
    project: ProjectOption, name: Annotated[str, typer.Argument(metavar="NAME", help="The environment's name.")]
) -> None:
    """Delete an environment in which nothing runs, its secrets and its site; its history stays."""

    async def work(client: DeploymentsClient) -> None:
        environment = await environment_named(client, project, name)
        await client.delete_environment(environment.id)

    calling(work)
    errors.print(show.plain(f"{name} is gone"))


def _change_environment(project: str, name: str, change: UpdateEnvironmentRequest, *, as_json: bool) -> None:
    async def work(client: DeploymentsClient) -> Environment:
        environment = await environment_named(client, project, name)
        return await client.update_environment(environment.id, change)

    changed = calling(work)
    write_json(changed) if as_json else console.print(show.plain(changed.id))


@env_app.command("list")
def list_environments(project: ProjectOption, as_json: Json = False) -> None:
    """A project's environments."""
    found = calling(lambda client: client.list_environments(project))
    write_json(found) if as_json else show.show_environments(console, found)
