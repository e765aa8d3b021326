"""Every status and everything that may happen to a deployment in it: what the table of statuses does not allow has no
effect, whoever brings it, and whoever asks for it is told."""

import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from domain.build import Build
from domain.ending import Ending
from domain.errors import ErrorCode
from domain.result import Failure
from domain.states import ACTIVE, TERMINAL, TRANSITIONS, Status, moves
from store.database import Database
from store.progress import ProgressStore
from store.seal import Sealer
from tests.api.conftest import Api, Start
from tests.api.test_webhooks import OPERATORS, send
from tests.providers.signing import PAYLOADS, vercel

_EVENTS = json.loads((PAYLOADS / "vercel/constructed.json").read_text())["events"]
WEBHOOKS = sorted(kind for kind, event in _EVENTS.items() if "deployment" in event["payload"])
ASKED = {"projectId": "site", "sourceRef": "main", "force": True, "breakGlass": "every status"}
RETRIED = frozenset({Status.FAILED, Status.CANCELED, Status.TIMEOUT})
NEWS = (Status.QUEUED, Status.INITIALIZING, Status.BUILDING, Status.DEPLOYING)


def ending(status: Status) -> Ending:
    well = status is Status.SUCCEEDED
    return Ending(status=status, failure=None if well else Failure(code=ErrorCode.BUILD_FAILED, message="exit code 1"))


class Deployments:
    """Deployments of one project, each brought to a status, and what happens to them there."""

    def __init__(self, api: Api, progress: ProgressStore) -> None:
        self.api = api
        self.progress = progress
        self.numbers = itertools.count(1)
        self.made: list[str] = []

    async def at(self, status: Status) -> str:
        identity: str = (await self.api.make("/v1/deployments", ASKED))["id"]
        self.made.append(identity)
        if status in TERMINAL:
            await self.progress.finish(identity, ending(status))
        elif status is not Status.CREATED:
            await self.progress.reach(identity, status)
        return identity

    async def status(self, identity: str) -> Status:
        return Status((await self.api("GET", f"/v1/deployments/{identity}")).json()["status"])

    async def ask(self, identity: str, what: str) -> httpx.Response:
        body = {"retry": {"force": True, "breakGlass": "every status"}, "cancel": None}.get(what, {})
        return await self.api("POST", f"/v1/deployments/{identity}/{what}", body)

    async def hear(self, identity: str, kind: str) -> None:
        document = vercel(f"build-of-{identity}", f"delivery-{next(self.numbers)}", kind, headwayDeploymentId=identity)
        answer = await send(self.api, "vercel", document, message=f"m{next(self.numbers)}")
        assert answer.status_code == 202, answer.text


Happening = Callable[[Deployments, str], Awaitable[object]]
ASKING: dict[str, frozenset[Status]] = {
    "cancel": ACTIVE,
    "retry": RETRIED,
    "rollback": frozenset(Status),
    "approve": frozenset(),
    "reject": frozenset(),
}
"""What people may ask for, and in which statuses it is taken. None of it moves the deployment: its workflow does."""


def happenings() -> dict[str, tuple[Status | None, Happening]]:
    """Whatever brings news, and the status that it is news of."""
    heard: dict[str, tuple[Status | None, Happening]] = {
        f"webhook {kind}": (None, lambda of, one, kind=kind: of.hear(one, kind))  # type: ignore[misc]
        for kind in WEBHOOKS
    }
    polled: dict[str, tuple[Status | None, Happening]] = {
        f"news of {goal}": (goal, lambda of, one, goal=goal: of.progress.reach(one, goal))  # type: ignore[misc]
        for goal in NEWS
    }
    ended: dict[str, tuple[Status | None, Happening]] = {
        f"ending {goal}": (goal, lambda of, one, goal=goal: of.progress.finish(one, ending(goal)))  # type: ignore[misc]
        for goal in sorted(TERMINAL)
    }
    build: dict[str, tuple[Status | None, Happening]] = {
        "a build's id": (Status.INITIALIZING, lambda of, one: of.progress.note_build(_build(one))),
        "a look at the gate": (Status.QUEUED, lambda of, one: of.api.services.gate.look(one)),
        "a further trigger": (None, lambda of, _: of.api.make("/v1/deployments", ASKED)),
    }
    return {**heard, **polled, **ended, **build}


def _build(identity: str) -> Build:
    return Build(deployment_id=identity, project_id="site", environment="production", build_id=f"build-of-{identity}")


@pytest.mark.parametrize("status", list(Status))
async def test_only_what_the_table_allows_happens(
    start: Start, database: Database, sealer: Sealer, status: Status
) -> None:
    api = await start(trigger_limit=1000, **OPERATORS)
    await api.make("/v1/projects", {"id": "site", "provider": "internal"})
    await database.fetch_all("update projects set provider = 'vercel' where id = 'site' returning id")
    of = Deployments(api, ProgressStore(database, sealer))
    await of.at(Status.SUCCEEDED)
    for name, (goal, happen) in happenings().items():
        identity = await of.at(status)
        await happen(of, identity)
        trail = moves(status, goal) if goal is not None else []
        assert await of.status(identity) == (trail[-1] if trail else status), name
    identity = await of.at(status)
    for what, accepted in ASKING.items():
        answer = await of.ask(identity, what)
        assert (answer.status_code == 409) == (status not in accepted), answer.text
        assert await of.status(identity) is status, what
    for one in of.made:
        told: list[dict[str, Any]] = await database.fetch_all(
            "select status from events where deployment_id = %(id)s order by version", {"id": one}
        )
        for before, after in itertools.pairwise(Status(event["status"]) for event in told):
            assert after in TRANSITIONS[before].values()
