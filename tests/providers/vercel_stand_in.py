"""Vercel, as far as our adapter uses it: deployments with a life of their own, their log, domains that move.

The branch of a deployment says how it goes: `well` is built and goes live, `failing` is not, `endless` builds until it
is canceled, `frozen` stays as the test leaves it. Facts are those of the official description and of its clients.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.providers.stand_in import StandIn

TOKEN = "token-of-vercel"
PROJECT = "prj_shop"
LINES = 1200
KEEP_ALIVE = b'{"keepAlive": true}\n\n'


def now() -> int:
    return int(time.time() * 1000)


@dataclass
class Made:
    """A deployment: what is told of it, and its log."""

    id: str
    body: dict[str, Any]
    plan: str
    created: int = field(default_factory=now)
    state: dict[str, Any] = field(default_factory=lambda: {"readyState": "QUEUED", "aliasAssigned": False})
    records: list[dict[str, Any]] = field(default_factory=list)
    written: asyncio.Event = field(default_factory=asyncio.Event)
    hidden_for: int = 0
    life: "asyncio.Task[None] | None" = None

    @property
    def word(self) -> str:
        return str(self.state["readyState"])

    @property
    def production(self) -> bool:
        return self.body.get("target") == "production"

    @property
    def over(self) -> bool:
        return self.word in {"READY", "ERROR", "CANCELED"}

    def becomes(self, word: str, **more: Any) -> None:
        self.state |= {"readyState": word, **more}

    def write(self, text: str | None, kind: str = "stdout", **more: Any) -> None:
        """Forms take turns; many are of one millisecond."""
        number = len(self.records)
        date = self.created + number // 7
        info = {"type": "build", "name": "bld_1", "step": "build"}
        inner = {
            "deploymentId": self.id,
            "id": f"{self.id}-{number}",
            "date": date,
            "serial": str(number),
            "info": info,
        }
        if text is not None:
            inner["text"] = text
        flat = {"type": kind, "created": date, **inner, **more}
        self.records.append(flat if number % 3 else {"type": kind, "created": date, "payload": inner, **more})
        self.wake()

    def tell(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        self.wake()

    def wake(self) -> None:
        self.written.set()
        self.written = asyncio.Event()


class VercelStandIn(StandIn):
    description = "vercel"

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[str, Made] = {}
        self.live: str | None = None
        self.assigns_domains = True
        self.job: dict[str, Any] | None = None
        self.variables: list[dict[str, Any]] = []
        self.refused_variables: list[dict[str, Any]] = []
        self.list_lags = 0
        self.finds_similar = True
        self.as_array = False
        self.page_size = 100
        self.streams_end_after: int | None = None
        self._numbers = itertools.count(1)

    def routes(self) -> list[Route]:
        return [
            Route("/v13/deployments", self.create, methods=["POST"]),
            Route("/v13/deployments/{id}", self.read, methods=["GET"]),
            Route("/v7/deployments", self.list_, methods=["GET"]),
            Route("/v12/deployments/{id}/cancel", self.cancel, methods=["PATCH"]),
            Route("/v3/deployments/{id}/events", self.events, methods=["GET"]),
            Route("/v9/projects/{project}", self.project, methods=["GET"]),
            Route("/v10/projects/{project}/env", self.set_variables, methods=["POST"]),
            Route("/v10/projects/{project}/promote/{id}", self.promote, methods=["POST"]),
            Route("/v1/projects/{project}/rollback/{id}", self.roll_back, methods=["POST"]),
        ]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with super().running() as server:
            try:
                yield server
            finally:
                for made in self.made.values():
                    if made.life is not None:
                        made.life.cancel()
                    made.wake()

    # What it is asked

    async def create(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        body = await request.json()
        similar = self._similar(body)
        if similar is not None and request.query_params.get("forceNew") != "1":
            return JSONResponse(self._document(similar))
        made = Made(f"dpl_{next(self._numbers)}", body, body["gitSource"]["ref"], hidden_for=self.list_lags)
        self.made[made.id] = made
        self.creates[body.get("meta", {}).get("headwayDeploymentId", "")] += 1
        made.life = asyncio.create_task(self._live(made))
        return JSONResponse(self._document(made))

    async def read(self, request: Request) -> Response:
        made = self.made.get(request.path_params["id"])
        if refused := self._refused(request):
            return refused
        return JSONResponse(self._document(made)) if made else _error(404, "not_found", "no such deployment")

    async def list_(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        until = int(request.query_params.get("until", now() + 1000))
        since = int(request.query_params.get("since", 0))
        found = []
        for made in sorted(self.made.values(), key=lambda made: made.created, reverse=True):
            if made.hidden_for:
                made.hidden_for -= 1
            elif since <= made.created < until:
                found.append(made)
        page = found[: self.page_size]
        following = page[-1].created if len(found) > len(page) else None
        pagination = {"count": len(page), "next": following, "prev": None}
        return JSONResponse({"deployments": [self._item(made) for made in page], "pagination": pagination})

    async def cancel(self, request: Request) -> Response:
        made = self.made.get(request.path_params["id"])
        if made is None:
            return _error(404, "not_found", "no such deployment")
        if made.over:
            return _error(400, "bad_request", "it cannot be canceled")
        if made.life is not None:
            made.life.cancel()
        made.becomes("CANCELED", canceledAt=now())
        made.wake()
        return JSONResponse(self._document(made))

    async def events(self, request: Request) -> Response:
        made = self.made.get(request.path_params["id"])
        if made is None:
            return _error(400, "bad_request", "no such deployment")
        since = int(request.query_params.get("since", 0))
        if self.as_array and request.query_params.get("follow") != "1":
            return JSONResponse([record for record in made.records if _date(record) >= since])
        lines = self._lines(made, since, follow=request.query_params.get("follow") == "1")
        return StreamingResponse(lines, media_type="application/stream+json")

    async def project(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        self._move()
        nowhere: dict[str, Any] = {"functionDefaultRegions": []}
        document = {
            "accountId": "team_1",
            "directoryListing": False,
            "id": PROJECT,
            "name": "shop",
            "nodeVersion": "22.x",
            "resourceConfig": nowhere,
            "defaultResourceConfig": nowhere,
            "targets": {"production": self._target(self.made[self.live])} if self.live else {},
            "lastAliasRequest": self.job,
        }
        return JSONResponse(document)

    async def set_variables(self, request: Request) -> Response:
        variables = await request.json()
        self.variables += variables
        created = [{**variable, "value": "hidden"} for variable in variables]
        return JSONResponse({"created": created, "failed": self.refused_variables}, 201)

    async def promote(self, request: Request) -> Response:
        return self._ask_for("promote", request)

    async def roll_back(self, request: Request) -> Response:
        return self._ask_for("rollback", request)

    # What it does by itself

    async def _live(self, made: Made) -> None:
        if made.plan == "frozen":
            return
        await asyncio.sleep(0.02)
        made.becomes("BUILDING", buildingAt=now())
        made.write(None, "deployment-state")
        if made.plan == "endless":
            made.write("building and building")
            return
        for number in range(LINES):
            made.write(f"line {number}", "stderr" if number % 5 == 0 else "stdout")
            if number % 500 == 0:
                await asyncio.sleep(0.01)
        if made.plan == "failing":
            made.write("the page has no title", level="error")
            made.becomes(
                "ERROR", errorCode="BUILD_FAILED", errorMessage='Command "make" exited with 1', errorStep="build"
            )
            made.state["buildErrorAt"] = now()
            return
        made.becomes("READY", ready=now())
        made.write(None, "deployment-state")
        await asyncio.sleep(0.02)
        self.goes_live(made)

    def goes_live(self, made: Made) -> None:
        if made.production and not self.assigns_domains:
            made.state["readySubstate"] = "STAGED"
            return
        made.state |= {"aliasAssigned": True, "alias": [f"{made.plan}-shop.vercel.app", "shop.example.org"]}
        if made.production:
            made.state["readySubstate"] = "PROMOTED"
            self.live = made.id
        told = {"aliasError": None, "aliasWarning": None, "alias": made.state["alias"]}
        made.tell({"type": "alias-assigned", "date": now(), "deploymentId": made.id, **told})

    def _ask_for(self, kind: str, request: Request) -> Response:
        made = self.made.get(request.path_params["id"])
        if made is None or made.word != "READY":
            return _error(400, "bad_request", "it is not ready")
        if self.live == made.id or (self.job and self.job["jobStatus"] in {"pending", "in-progress"}):
            return _error(409, "conflict", "it is current, or another is under way")
        self.job = {
            "fromDeploymentId": self.live or "",
            "toDeploymentId": made.id,
            "jobStatus": "pending",
            "requestedAt": now(),
            "type": kind,
        }
        self.creates[f"{kind} {made.id}"] += 1
        return Response(status_code=201)

    def _move(self) -> None:
        """Each look at the project brings a job on by one step."""
        if self.job is None:
            return
        after = {"pending": "in-progress", "in-progress": "succeeded"}.get(self.job["jobStatus"])
        if after is not None:
            self.job = {**self.job, "jobStatus": after}
        if after == "succeeded":
            self.assigns_domains = self.job["type"] == "promote"
            self.goes_there(self.made[self.job["toDeploymentId"]])

    def goes_there(self, made: Made) -> None:
        made.state |= {"readySubstate": "PROMOTED", "aliasAssigned": True, "alias": ["shop.example.org"]}
        self.live = made.id

    async def _lines(self, made: Made, since: int, *, follow: bool) -> AsyncGenerator[bytes, None]:
        sent = 0
        yield KEEP_ALIVE
        while True:
            written = made.written
            for record in made.records[sent:]:
                sent += 1
                if _date(record) >= since:
                    yield json.dumps(record).encode() + b"\n"
                if follow and sent == self.streams_end_after:
                    return
            if not follow:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(written.wait(), 0.5)
            yield KEEP_ALIVE

    # What it says

    @staticmethod
    def _refused(request: Request) -> Response | None:
        if request.headers["authorization"] != f"Bearer {TOKEN}":
            return _error(403, "forbidden", "Not authorized")
        return None

    def _similar(self, body: dict[str, Any]) -> Made | None:
        """One of the same commit for the same target counts, whoever asked for it."""
        wanted = (body["gitSource"], body.get("target"))
        found = [made for made in self.made.values() if (made.body["gitSource"], made.body.get("target")) == wanted]
        return found[-1] if found and self.finds_similar else None

    @staticmethod
    def _document(made: Made) -> dict[str, Any]:
        git = made.body["gitSource"]
        kept = {
            "build": {"env": []},
            "env": [],
            "inspectorUrl": f"https://vercel.com/team/shop/{made.id}",
            "isInConcurrentBuildsQueue": False,
            "isInSystemBuildsQueue": False,
            "projectSettings": made.body.get("projectSettings", {}),
            "bootedAt": made.created,
            "buildingAt": made.created,
            "buildSkipped": False,
            "creator": {"uid": "user_1"},
            "public": False,
            "id": made.id,
            "createdAt": made.created,
            "name": made.body["name"],
            "type": "LAMBDAS",
            "meta": {
                **made.body.get("meta", {}),
                "githubCommitSha": "c0ffee" + "0" * 34,
                "githubCommitMessage": "Sell",
            },
            "gitSource": git,
            "regions": ["fra1"],
            "url": f"shop-{made.id.removeprefix('dpl_')}.vercel.app",
            "version": 2,
            "projectId": PROJECT,
            "plan": "pro",
            "createdIn": "fra1",
            "ownerId": "team_1",
            "routes": None,
            "target": "production" if made.production else None,
        }
        return {**kept, **made.state, "status": made.word}

    @staticmethod
    def _item(made: Made) -> dict[str, Any]:
        return {
            "uid": made.id,
            "name": made.body["name"],
            "projectId": PROJECT,
            "url": f"shop-{made.id}.vercel.app",
            "created": made.created,
            "type": "LAMBDAS",
            "creator": {"uid": "user_1"},
            "inspectorUrl": None,
            "meta": made.body.get("meta", {}),
            "state": made.word,
        }

    @staticmethod
    def _target(made: Made) -> dict[str, Any]:
        return {
            "id": made.id,
            "createdAt": made.created,
            "createdIn": "fra1",
            "creator": None,
            "deploymentHostname": "shop.vercel.app",
            "name": "shop",
            "plan": "pro",
            "private": False,
            "readyState": made.word,
            "type": "LAMBDAS",
            "url": "shop.vercel.app",
            "userId": "user_1",
        }


def _date(record: dict[str, Any]) -> float:
    date = record.get("payload", record).get("date")
    return float("inf") if date is None else float(date)


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status)
