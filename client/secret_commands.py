"""The commands about secrets of a project or of one of its environments. They can be set, and never read.

Rule: a value comes from standard input or a file, never from an argument, where every process could read it.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from client import show
from client.client import DeploymentsClient
from client.command import Json, calling, console, errors, request, write_json
from domain.configuration import ConfigurationChange
from domain.errors import DeploymentError, ErrorCode
from domain.project import Environment, Project, UpdateEnvironmentRequest, UpdateProjectRequest
from domain.secret import document

secrets_app = typer.Typer(help="Secrets: set, and never read again.", no_args_is_help=True)

ProjectOption = Annotated[str, typer.Option("--project", "-p", help="The project's id.")]
EnvOption = Annotated[str | None, typer.Option("--env", "-e", help="The environment's name; else all of them.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As the build sees it in its environment.")]


@secrets_app.command("set")
def set_secret(
    project: ProjectOption,
    name: NameArgument,
    env: EnvOption = None,
    file: Annotated[Path | None, typer.Option("--file", help="Where the value is; else standard input.")] = None,
) -> None:
    """Set a secret to what standard input says; one line end at its end is not part of it."""
    try:
        value = file.read_text() if file is not None else sys.stdin.read()
    except (OSError, UnicodeDecodeError) as error:
        raise DeploymentError(ErrorCode.INVALID_REQUEST, f"the value cannot be read: {error}") from None
    calling(lambda client: _change(client, project, env, {name: value.removesuffix("\n")}))
    errors.print(show.plain(f"{name} is set"))


@secrets_app.command("unset")
def unset_secret(project: ProjectOption, name: NameArgument, env: EnvOption = None) -> None:
    """Take a secret away."""
    calling(lambda client: _change(client, project, env, {name: None}))
    errors.print(show.plain(f"{name} is gone"))


@secrets_app.command("list")
def list_secrets(project: ProjectOption, env: EnvOption = None, as_json: Json = False) -> None:
    """The names of the secrets that are set here, with their versions."""
    found = calling(lambda client: _holder(client, project, env)).secret_versions
    if as_json:
        sys.stdout.write(json.dumps(document(found)) + "\n")
    elif found:
        show.show_secrets(console, found)


@secrets_app.command("keys")
def list_keys(as_json: Json = False) -> None:
    """The service's own keys, by their ids: how many values each still seals. For admins of all projects."""
    found = calling(lambda client: client.list_secret_keys())
    if as_json:
        write_json(found)
        return
    show.show_secret_keys(console, found.keys)
    errors.print(show.plain(f"{found.left} left to be sealed anew"))


async def _change(client: DeploymentsClient, project: str, env: str | None, secrets: dict[str, str | None]) -> None:
    configuration = request(ConfigurationChange, secrets=secrets)
    holder = await _holder(client, project, env)
    if isinstance(holder, Environment):
        await client.update_environment(holder.id, UpdateEnvironmentRequest(configuration=configuration))
    else:
        await client.update_project(holder.id, UpdateProjectRequest(configuration=configuration))


async def _holder(client: DeploymentsClient, project: str, env: str | None) -> Project | Environment:
    if env is None:
        found = await client.get_project(project)
        if found is None:
            raise DeploymentError(ErrorCode.PROJECT_NOT_FOUND, f"there is no project {project}")
        return found
    return await environment_named(client, project, env)


async def environment_named(client: DeploymentsClient, project: str, name: str) -> Environment:
    there = await client.list_environments(project)
    for one in there:
        if one.name == name:
            return one
    names = ", ".join(one.name for one in there)
    raise DeploymentError(
        ErrorCode.ENVIRONMENT_NOT_FOUND, f"there is no environment {name} in {project}; it has {names}"
    )
