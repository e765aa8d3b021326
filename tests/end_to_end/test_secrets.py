"""Forty secrets, of project, environment and request, printed by real builds in every spelling, are nowhere to be read
afterwards. A control that is printed beside them, and is no secret, is found in each of the same places."""

import asyncio
import random
import string
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import re2

from client.client import DeploymentsClient
from domain.configuration import HIDDEN, ConfigurationChange
from domain.deployment import Deployment, TriggerDeploymentRequest
from domain.states import Status
from tests import spellings
from tests.end_to_end import places
from tests.end_to_end.places import Found
from tests.end_to_end.test_environments import Person, person
from tests.end_to_end.test_main_job import end_of
from tests.providers.git_server import GitServer
from tests.spellings import SPELLINGS
from tests.test_stack import Up

BUILD = """
import os, sys, time
from spellings import SPELLINGS, in_base64

values = [value for name, value in sorted(os.environ.items()) if name.startswith("ONE_OF_FORTY_")]
for value in values:
    for name, spell in SPELLINGS.items():
        print(f"{name}: {spell(value)}")
        print(f"{name}, in colours:", chr(27) + "[32m" + (chr(27) + "[1m").join(spell(value)))
    print(value, file=sys.stderr, flush=True)
    for part in ("in two writes: ", value[:7], value[7:] + chr(10)):
        print(part, end="", flush=True)
        time.sleep(0.01)
    print("." * (64 * 1024 - len(value) // 2) + value)
    wrapped = in_base64("user:" + 3 * value)
    print(*(wrapped[start : start + 76] for start in range(0, len(wrapped), 76)), sep=chr(10))
made = values[0][::-1]
print("::add-mask::" + made)
print("made meanwhile:", made)
sys.exit("error: cannot log in as " + values[1] + " or as " + made + " at " + sys.argv[1])
"""

SITE = """
import os, pathlib, sys

print("logging in with", *os.environ.values(), "at", sys.argv[1])
pathlib.Path("out").mkdir()
pathlib.Path("out/index.html").write_text("a site")
"""

OTHER_CONTROLS = {
    "environments": "HEADWAY_TEMPORAL_UI_URL",
    "logs of the parts": "worker is ready",
    "output of the stack": "Ready after",
}
"""Of places where no project is named."""


def forty() -> list[str]:
    chance = random.SystemRandom()
    odd = string.ascii_letters + string.digits + " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~äß中😀"
    values = ["s" + "".join(chance.choices(odd, k=chance.randint(20, 60))) + "t" for _ in range(36)]
    lines = ["".join(chance.choices(string.ascii_letters + "+/", k=64)) for _ in range(40)]
    keys = [
        "\n".join(["-----BEGIN KEY-----", *lines[start : start + 10], "-----END KEY-----"]) for start in (0, 10, 20, 30)
    ]
    return values + keys


def needles(values: list[str]) -> Iterator[str]:
    """Of each spelling of each value and of its lines: its beginning, its middle and its end."""
    for text in {part for value in values for part in (value, *value.splitlines())}:
        for spell in SPELLINGS.values():
            spelled = spell(text)
            for start in (0, len(spelled) // 2 - 8, len(spelled) - 16):
                yield spelled[max(0, start) :][:16]


def search_for(values: list[str]) -> Any:
    """Quick, and not the mask's own way: each needle as it stands."""
    wanted = {needle.encode() for needle in needles(values) if "-----" not in needle}
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = 1 << 30
    return re2.compile(b"|".join(map(re2.escape, sorted(wanted))), options)


def found_in(text: bytes, search: Any) -> bytes | None:
    """What stands there, and what stands around it."""
    found = search.search(text)
    return text[max(0, found.start() - 80) : found.end() + 80] if found else None


class Deployments:
    """Whatever can be done with secrets, by two people; `answers` is what they were told."""

    def __init__(self, client: DeploymentsClient, operator: Person, bob: Person, project: str) -> None:
        self.client = client
        self.project = project
        self.answers: list[Any] = []
        self._operator = operator
        self._bob = bob

    async def ask(self, method: str, path: str, status: int, body: Any = None) -> Any:
        self.answers.append(await self._operator(method, path, status, body))
        return self.answers[-1]

    async def ended(self, made: Any) -> Deployment:
        done = await end_of(self.client, Deployment.model_validate(made))
        self.answers.append(done)
        return done

    async def protect(self, approvals: int, **configuration: Any) -> None:
        [environment] = (await self.ask("GET", f"/v1/projects/{self.project}/environments", 200))["items"]
        changes = {"protection": {"requiredApprovals": approvals}, "configuration": configuration}
        await self.ask("PATCH", f"/v1/environments/{environment['id']}", 200, changes)

    async def failing(self, secrets: dict[str, str]) -> list[Deployment]:
        """One that fails, asked for twice and retried; and two that are refused."""
        key = str(uuid4())
        asked = {"projectId": self.project, "sourceRef": "main", "configuration": {"secrets": secrets}}
        first, again = [
            await self.ask("POST", "/v1/deployments", 202, {**asked, "idempotencyKey": key}) for _ in range(2)
        ]
        assert first["id"] == again["id"]
        for wrong in (
            {"configuration": {"secrets": {name: [value] for name, value in secrets.items()}}},
            {"sourceRef": ".."},
            {"sourceRef": "other", "idempotencyKey": key},
        ):
            await self.ask("POST", "/v1/deployments", 422, {**asked, **wrong})
        failed = await self.ended(first)
        return [failed, await self.ended(await self.ask("POST", f"/v1/deployments/{failed.id}/retry", 202))]

    async def succeeding(self, secrets: dict[str, str]) -> list[Deployment]:
        """One that is approved, one more, and the way back."""
        asked = {"projectId": self.project, "sourceRef": "main", "configuration": {"secrets": secrets}}
        await self.protect(1)
        made = await self.ask("POST", "/v1/deployments", 202, asked)
        self.answers.append(await self._bob("POST", f"/v1/deployments/{made['id']}/approve", 200))
        done = [await self.ended(made)]
        await self.protect(0)
        done.append(await self.ended(await self.ask("POST", "/v1/deployments", 202, asked)))
        await self.ask("POST", f"/v1/deployments/{done[1].id}/rollback?dryRun=true", 200)
        return [*done, await self.ended(await self.ask("POST", f"/v1/deployments/{done[1].id}/rollback", 202))]


@pytest.fixture
async def operator(local: Up) -> AsyncIterator[Person]:
    async with httpx.AsyncClient(base_url=local.said["apiUrl"]) as http:
        yield Person(http, local.said["apiToken"])


async def everything(local: Up, deployments: list[Deployment]) -> AsyncIterator[Found]:
    for place in (places.tables(local.said["databaseUrl"]), places.temporal_file(local), places.files(local)):
        for found in place:
            yield found
    for later in (places.dump(local), places.histories(local), places.answers(local, deployments)):
        async for found in later:
            yield found


async def make(operator: Person, git_server: GitServer, files: dict[str, str], **configuration: Any) -> str:
    """The id of a project, which its build is told too: it is no secret, and comes by everywhere."""
    name = f"control-{uuid4().hex}"
    build = {"buildCommand": f"python3 build.py {name}", "outputDirectory": "out", **configuration}
    repository = git_server.repository(name, files).url
    project = {"id": name, "provider": "internal", "repositoryUrl": repository, "configuration": build}
    await operator("POST", "/v1/projects", 201, project)
    return name


async def test_no_secret_is_to_be_read_anywhere(
    client: DeploymentsClient, local: Up, operator: Person, git_server: GitServer
) -> None:
    values = forty()
    made = values[0][::-1]
    search = search_for([*values, made])
    assert all(found_in(f"so {spell(values[3])}".encode(), search) for spell in SPELLINGS.values())

    named = {f"ONE_OF_FORTY_{number:02}": value for number, value in enumerate(values)}
    of_project, of_environment, of_request = (dict(list(named.items())[part::3]) for part in range(3))
    files = {"build.py": BUILD, "spellings.py": Path(spellings.__file__).read_text()}
    projects = [await make(operator, git_server, one, secrets=of_project) for one in (files, {"build.py": SITE})]
    bob = await person(operator, "bob", "read", "approve")
    failing, succeeding = (Deployments(client, operator, bob, project) for project in projects)
    for one in (failing, succeeding):
        await one.protect(0, secrets=of_environment)
    running = asyncio.gather(failing.failing(of_request), succeeding.succeeding(of_request))
    seen: set[Found] = set()
    while not running.done():
        seen |= {*places.command_lines(), *places.environments(local)}
        await asyncio.sleep(0.1)
    failed, succeeded = await running

    assert {one.status for one in failed} == {Status.FAILED}
    assert {one.status for one in succeeded} == {Status.SUCCEEDED}
    assert failed[0].error is not None
    assert f"error: cannot log in as *** or as *** at {projects[0]}" in failed[0].error.log_excerpt
    asked = ConfigurationChange(secrets=of_request, environment_variables={"A_KEY": made})
    trigger = TriggerDeploymentRequest(project_id=projects[0], source_ref="main", configuration=asked)
    said = [("objects", f"{one!r} {one}".encode()) for one in (trigger, *failing.answers, *succeeding.answers)]
    found = [*seen, *said, *[entry async for entry in everything(local, [*failed, *succeeded])]]
    leaks = [(place, found_in(text, search)) for place, text in found if found_in(text, search)]
    assert leaks == []
    assert {place for place, _ in found} == places.ALL
    controls = {
        place: search_for([OTHER_CONTROLS[place]] if place in OTHER_CONTROLS else projects) for place in places.ALL
    }
    # Without the control, nothing found would prove nothing.
    assert {place for place, text in found if found_in(text, controls[place])} == places.ALL
    log = b"".join(text for place, text in found if place == "answers").decode(errors="replace")
    assert log.count(HIDDEN) > len(values) * len(SPELLINGS) * 2
    assert "::add-mask::***" in log
    assert "made meanwhile: ***" in log
