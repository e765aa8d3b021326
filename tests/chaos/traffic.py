"""Clients of the stack under test: what they were promised, and what they saw.

Rules:
1. A client asks until it is answered: with the same key, after any failure that says so or says nothing.
2. What was acknowledged is written down here, and so is every change and every line that a stream told.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from client.transport import Transport
from domain.deployment import Deployment, TriggerDeploymentRequest
from domain.errors import DeploymentError, ErrorCode
from domain.project import CreateProjectRequest, Environment, UpdateEnvironmentRequest
from domain.protection import DecisionRequest, Protection
from domain.states import Status
from domain.token import CreatedToken, CreateTokenRequest, Scope
from tests.chaos.held import BUILD
from tests.providers.custom_stand_in import TOKEN as PROVIDER_TOKEN
from tests.providers.custom_stand_in import described

AGAIN_SECONDS = 0.2
POLL = {"shortestSeconds": 0.3, "longestSeconds": 1}

Answer = TypeVar("Answer")
_numbers = itertools.count(1)


@dataclass
class Seen:
    """One change, as its stream told it. `at` is the harness's own clock."""

    version: int
    status: Status
    at: float


@dataclass
class Intent:
    """One deployment that somebody wanted. `expected` is how it has to end."""

    project: str
    provider: str
    hold: Status | None = None
    expected: Status | None = Status.SUCCEEDED
    code: ErrorCode | None = None
    ends_with: int = 0
    group: Status | None = None
    """The status in which the fault is to find it; None for traffic during the fault."""
    found: Status | None = None
    """The status in which the fault found it."""
    token: str = field(default_factory=lambda: uuid4().hex)
    id: str = ""
    watched: bool = False
    log_watched: bool = False
    changes: list[Seen] = field(default_factory=list)
    lines: list[tuple[int, str]] = field(default_factory=list)

    @property
    def request(self) -> TriggerDeploymentRequest:
        variables = {"WHO": self.token, "HOLD": str(self.hold or ""), "ENDS_WITH": str(self.ends_with or "")}
        asked = {"projectId": self.project, "sourceRef": "main", "idempotencyKey": self.token}
        return TriggerDeploymentRequest.model_validate(
            {**asked, "configuration": {"environmentVariables": variables}},
        )


class Clients:
    """Use as an async context manager."""

    def __init__(self, url: str, token: str) -> None:
        many = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))
        self._service = Transport(url, token, below=many)
        self._url = url
        self._approver: Transport | None = None
        self._watching: list[asyncio.Task[None]] = []
        self.acknowledged: dict[str, str] = {}
        """Of each key, the deployment that its 202 named."""
        self.contradictions: list[str] = []

    async def __aenter__(self) -> "Clients":
        await self._service.__aenter__()
        asked = CreateTokenRequest(subject="bob", scopes=[Scope.READ, Scope.APPROVE], projects=["*"])
        made = CreatedToken.model_validate_json(await self._service.create("/v1/tokens", asked))
        self._approver = await Transport(self._url, made.token).__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        await self._service.__aexit__(None, None, None)
        if self._approver is not None:
            await self._approver.__aexit__(None, None, None)

    # --- what is set up ---

    async def project(self, provider: str, where: str, *, concurrency: str = "parallel", approved: bool = False) -> str:
        """A project of its own; `where` is the repository, or the deploy server."""
        name = f"p{next(_numbers)}-{uuid4().hex[:6]}"
        asked: dict[str, Any] = {"id": name, "provider": provider, "concurrency": concurrency}
        if provider == "internal":
            asked |= {"repositoryUrl": where, "configuration": BUILD}
        else:
            asked |= {"providerSettings": described(where, poll=POLL, webhooks=None)}
            asked |= {"configuration": {"secrets": {"DEPLOY_TOKEN": PROVIDER_TOKEN}}}
        await self._service.create("/v1/projects", CreateProjectRequest.model_validate(asked))
        if approved:
            found = json.loads(await self._service.get(f"/v1/projects/{name}/environments"))["items"]
            environment = Environment.model_validate(found[0])
            change = UpdateEnvironmentRequest(protection=Protection(required_approvals=1))
            await self._service.patch(f"/v1/environments/{environment.id}", change)
        return name

    # --- what is asked for ---

    async def trigger(self, intent: Intent) -> str:
        """Asks until it is promised."""
        answer = await until_answered(lambda: self._service.create("/v1/deployments", intent.request))
        promised = Deployment.model_validate_json(answer).id
        if self.acknowledged.setdefault(intent.token, promised) != promised:
            self.contradictions.append(f"key {intent.token} was answered with {promised}, and with another before")
        intent.id = promised
        return promised

    async def trigger_all(self, intents: list[Intent], at_once: int = 8) -> None:
        turns = asyncio.Semaphore(at_once)

        async def one(intent: Intent) -> None:
            async with turns:
                await self.trigger(intent)

        await asyncio.gather(*map(one, intents))

    async def approve(self, deployment_id: str) -> None:
        assert self._approver is not None
        path = f"/v1/deployments/{deployment_id}/approve"
        approver = self._approver
        await _once_is_enough(lambda: approver.post(path, DecisionRequest()))

    async def cancel(self, deployment_id: str) -> None:
        await _once_is_enough(lambda: self._service.post(f"/v1/deployments/{deployment_id}/cancel"))

    # --- what is seen ---

    def watch(self, intent: Intent, *, log: bool = True) -> list[asyncio.Task[None]]:
        """Its changes, and its log, from now to its end; a cut is mended where it happened. The streams end then."""

        def changed(cursor: str, document: str) -> None:
            now = Deployment.model_validate_json(document)
            intent.changes.append(Seen(int(cursor), now.status, time.monotonic()))

        def said(cursor: str, document: str) -> None:
            intent.lines.append((int(cursor), json.loads(document)["message"]))

        own, intent.watched, intent.log_watched = f"/v1/deployments/{intent.id}", True, log
        streams = [asyncio.create_task(self._follow(f"{own}/events", changed))]
        if log:
            streams.append(asyncio.create_task(self._follow(f"{own}/logs/stream", said)))
        self._watching += streams
        return streams

    async def _follow(self, path: str, take: Callable[[str, str], None]) -> None:
        cursor: str | None = None
        while True:
            try:
                async with contextlib.aclosing(self._service.events(path, {}, after=cursor)) as events:
                    async for event in events:
                        cursor = event.cursor
                        take(event.cursor, event.document)
                    return
            except DeploymentError as error:
                _raise_unless_away(error)
            await asyncio.sleep(AGAIN_SECONDS)

    async def streams_end(self, seconds: float) -> bool:
        """Whether all streams have come to their end; raises what a client would have seen raised."""
        done, late = await asyncio.wait(self._watching, timeout=seconds) if self._watching else (set(), set())
        for task in done:
            task.result()
        self._watching = [*late]
        return not late


async def until_answered(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    while True:
        try:
            return await ask()
        except DeploymentError as error:
            _raise_unless_away(error)
        await asyncio.sleep(AGAIN_SECONDS)


async def _once_is_enough(ask: Callable[[], Awaitable[bytes]]) -> None:
    """A conflict after an answer that was lost says that it was done."""
    lost = False
    while True:
        try:
            await ask()
        except DeploymentError as error:
            if lost and error.code is ErrorCode.CONFLICT:
                return
            _raise_unless_away(error)
            lost = True
        else:
            return
        await asyncio.sleep(AGAIN_SECONDS)


def _raise_unless_away(error: DeploymentError) -> None:
    if error.code is not ErrorCode.UNAVAILABLE:
        raise error
