"""The commands as a shell sees them: exit codes, one JSON document, one line of error."""

import asyncio
import json
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.client import DeploymentsClient
from domain.deployment import Deployment
from domain.project import Project, UpdateProjectRequest
from domain.states import Status
from tests.client.commands import Ended, Headway, end, run, started
from tests.client.conftest import Service
from tests.servers import eventually


@pytest.fixture
def script(service: Service, tmp_path: Path) -> Headway:
    """A command as a process."""

    async def call(*arguments: str) -> Ended:
        return await run(*arguments, directory=tmp_path, **service.known)

    return call


async def begun(client: DeploymentsClient) -> Deployment:
    """The deployment that a command has begun by now."""

    async def there_is_one() -> bool:
        return (await client.list_deployments("site")).total == 1

    await eventually(there_is_one)
    return (await client.list_deployments("site")).items[0]


@pytest.mark.parametrize(
    ("status", "code"), [(Status.SUCCEEDED, 0), (Status.FAILED, 1), (Status.CANCELED, 3), (Status.TIMEOUT, 4)]
)
@pytest.mark.usefixtures("site")
async def test_a_followed_deployment_ends_with_the_exit_code_of_its_status(
    script: Headway, service: Service, client: DeploymentsClient, status: Status, code: int
) -> None:
    command = asyncio.create_task(script("deploy", "--project", "site", "--ref", "main", "--follow"))
    deployment = await begun(client)
    await service.say(deployment, "compiling [bold]everything[/]", "\x1b[2Jdone")
    await service.end(deployment, status)
    ended = await command
    assert ended.code == code
    assert "compiling [bold]everything[/]" in ended.output
    assert "\x1b[2J" not in ended.output
    assert status in ended.output


@pytest.mark.usefixtures("site")
async def test_ctrl_c_leaves_the_deployment_and_says_so(
    service: Service, client: DeploymentsClient, tmp_path: Path
) -> None:
    command = await started("deploy", "-p", "site", "-r", "main", "-f", directory=tmp_path, **service.known)
    assert command.stdout
    assert b"created" in await command.stdout.readline()
    command.send_signal(signal.SIGINT)
    ended = await end(command)
    assert ended.code == 130
    assert "goes on" in ended.errors
    assert not (await begun(client)).ended


async def test_following_with_json_is_one_document_a_line(
    script: Headway, service: Service, client: DeploymentsClient, site: Project
) -> None:
    command = asyncio.create_task(script("deploy", "-p", "site", "-r", "main", "-e", "production", "-f", "--json"))
    deployment = await begun(client)
    await service.say(deployment, "one", "two")
    await service.end(deployment, Status.SUCCEEDED)
    documents = [json.loads(line) for line in (await command).output.splitlines()]
    assert [one["log"]["message"] for one in documents if "log" in one] == ["one", "two"]
    assert [one["deployment"]["status"] for one in documents if "deployment" in one][-1] == "succeeded"


async def test_every_answer_can_be_one_json_document(headway: Headway, service: Service) -> None:
    project = (await headway("project", "create", "site", "--variable", "A=1", "--json")).document
    assert project["configuration"]["environmentVariables"] == {"A": "1"}
    assert (await headway("project", "list", "--json")).document["items"] == [project]
    assert (await headway("project", "show", "site", "--json")).document == project
    staging = (await headway("env", "create", "staging", "--project", "site", "--type", "staging", "--json")).document
    assert staging in (await headway("env", "list", "--project", "site", "--json")).document
    made = (await headway("deploy", "--project", "site", "--ref", "main", "--json")).document
    assert (await headway("show", made["id"], "--json")).document["id"] == made["id"]
    assert (await headway("list", "--project", "site", "--json")).document["total"] == 1
    assert (await headway("logs", made["id"], "--json")).document == []
    assert (await headway("cancel", made["id"], "--json")).document["cancelRequestedAt"]


async def test_a_preview_is_asked_for_listed_with_its_end_and_deleted(
    headway: Headway, service: Service, client: DeploymentsClient, site: Project
) -> None:
    previews = UpdateProjectRequest.model_validate({"previews": {"refs": ["feature/*"]}})
    await client.update_project("site", previews)
    made = (await headway("deploy", "-p", "site", "-r", "feature/x", "--preview")).output.strip()
    busy = await headway("env", "delete", "preview-feature-x", "-p", "site")
    assert (busy.code, made in busy.errors) == (1, True)
    found = await client.get_deployment(made)
    assert found is not None
    await service.end(found, Status.SUCCEEDED)
    [shown] = [line for line in (await headway("env", "list", "-p", "site")).output.splitlines() if "preview" in line]
    assert "feature/x" in shown
    assert "UTC" in shown
    gone = await headway("env", "delete", "preview-feature-x", "-p", "site")
    assert (gone.code, gone.errors) == (0, "preview-feature-x is gone\n")
    assert [one.name for one in await client.list_environments("site")] == ["production"]


async def test_people_read_tables_and_lines(
    headway: Headway, service: Service, client: DeploymentsClient, deployment: Deployment
) -> None:
    await service.say(deployment, "one", "two", "three")
    await service.end(deployment, Status.FAILED)
    assert "failed" in (await headway("show", deployment.id)).output
    assert deployment.id in (await headway("list", "--project", "site", "--status", "failed")).output
    tail = (await headway("logs", deployment.id, "--tail", "2", "--follow")).output
    assert [line.split()[-1] for line in tail.splitlines()] == ["two", "three"]
    again = await headway("retry", deployment.id)
    assert again.code == 0
    assert again.output.strip() != deployment.id
    assert "git.example.org" in (await headway("project", "show", "site")).output
    assert "production" in (await headway("env", "list", "-p", "site")).output


async def test_who_sets_a_secret_that_will_not_be_masked_is_warned_beside_the_answer(headway: Headway) -> None:
    made = await headway("project", "create", "site", "--secret", "PIN", PIN="4711")
    assert (made.code, made.output) == (0, "site\n")
    assert made.errors == "warning: secret PIN will not be masked in logs: it is shorter than 6 characters\n"
    deployed = await headway("deploy", "--project", "site", "--ref", "main")
    assert (deployed.code, deployed.errors) == (0, made.errors)


@pytest.mark.parametrize(
    "arguments",
    [
        ("deploy", "--project", "site"),
        ("deploy", "--project", "Not A Slug", "--ref", "main"),
        ("project", "create", "x", "--variable", "novalue"),
        ("project", "create", "x", "--provider-settings", "{"),
        ("project", "create", "x", "--secret", "NOT_IN_THE_ENVIRONMENT"),
        ("list", "--project", "site", "--limit", "101"),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(app, arguments)
    assert (ended.exit_code, ended.stdout) == (2, "")


async def test_what_the_service_refuses_is_one_line_of_error(script: Headway, service: Service) -> None:
    ended = await script("deploy", "--project", "nobody", "--ref", "main", "--json")
    assert (ended.code, ended.output) == (1, "")
    assert len(ended.errors.splitlines()) == 1
    missing = await script("show", "01900000-0000-7000-8000-000000000000")
    assert (missing.code, len(missing.errors.splitlines())) == (1, 1)


async def test_without_a_service_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    ended = await run("project", "list", directory=tmp_path)
    assert (ended.code, ended.output) == (1, "")
    assert "headway up" in ended.errors
    assert "Traceback" not in ended.errors
