"""Netlify, as far as our adapter uses it: a site with builds and deploys, what it serves, its variables, its logs.

The branch of a build says how it goes: `well` is built, `failing` is not, `endless` builds until it is canceled,
`frozen` stays as the test leaves it. A deploy of files goes on once it has all of them. Facts are those of the official
description, and of Netlify's own clients where it has none: the log, and how a cancel looks.
"""

import asyncio
import contextlib
import hashlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers.stand_in import Description, StandIn

TOKEN = "token-of-netlify"
SITE = "0b8a5a3e-site"
ACCOUNT = "acme"
LINES = 1200
COMMIT = "c0ffee" + "0" * 34
_SLASH = "~"


class _Judge(Description):
    """The log is not described: what is asked for it is judged by nobody."""

    def of_request(self, request: Request, body: bytes) -> list[str]:
        return [] if request.url.path.endswith("/log") else super().of_request(request, body)

    def of_answer(self, request: Request, answer: Response) -> list[str]:
        return [] if request.url.path.endswith("/log") else super().of_answer(request, answer)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Made:
    """A deploy: what is told of it, and its log."""

    id: str
    title: str
    plan: str
    production: bool
    state: str = "new"
    created: str = field(default_factory=now)
    more: dict[str, Any] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    taken: dict[str, bytes] = field(default_factory=dict)
    hidden_for: int = 0
    life: "asyncio.Task[None] | None" = None

    @property
    def over(self) -> bool:
        return self.state in {"ready", "error", "rejected"}

    @property
    def required(self) -> list[str]:
        return sorted(set(self.files.values()) - self.known - {_sha1(content) for content in self.taken.values()})

    def becomes(self, state: str, **more: Any) -> None:
        self.state = state
        self.more |= more

    def write(self, text: str, section: str = "building", **more: Any) -> None:
        """As old records and new ones have it, in turns."""
        name = "message" if len(self.log) % 2 else "log"
        self.log.append({"ts": now(), name: text, "section": section, "type": "stdout", **more})


class NetlifyStandIn(StandIn):
    description = "netlify"

    def __init__(self) -> None:
        super().__init__()
        self.judge = _Judge.named(self.description)
        self.made: dict[str, Made] = {}
        self.live: str | None = None
        self.locked = False
        self.locks = True
        self.restores = True
        self.publishes = True
        self.production_branch: str | None = "well"
        self.git_only = False
        self.has_logs = True
        self.list_lags = 0
        self.known: set[str] = set()
        self.variables: dict[str, dict[str, Any]] = {}
        self._numbers = itertools.count(1)

    def routes(self) -> list[Route]:
        return [
            Route("/sites/{site}", self.site, methods=["GET"]),
            Route("/sites/{site}/builds", self.build, methods=["POST"]),
            Route("/sites/{site}/deploys", self.create, methods=["POST"]),
            Route("/sites/{site}/deploys", self.list_, methods=["GET"]),
            Route("/sites/{site}/deploys/{id}/restore", self.restore, methods=["POST"]),
            Route("/deploys/{id}", self.read, methods=["GET"]),
            Route("/deploys/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/deploys/{id}/lock", self.lock, methods=["POST"]),
            Route("/deploys/{id}/log", self.log, methods=["GET"]),
            Route("/deploys/{id}/files/{path}", self.take, methods=["PUT"]),
            Route("/accounts/{account}/env", self.list_variables, methods=["GET"]),
            Route("/accounts/{account}/env", self.add_variables, methods=["POST"]),
            Route("/accounts/{account}/env/{key}", self.set_variable, methods=["PATCH"]),
        ]

    def described_path(self, path: str) -> str:
        start, slash, name = path.partition("/files/")
        return start + slash + name.replace("/", _SLASH)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with super().running() as server:
            try:
                yield server
            finally:
                for made in self.made.values():
                    if made.life is not None:
                        made.life.cancel()

    # What it is asked

    async def site(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        published = self._document(self.made[self.live]) | {"locked": self.locked} if self.live else None
        document = {
            "id": SITE,
            "name": "shop",
            "url": "http://shop.example.org",
            "ssl_url": "https://shop.example.org",
            "admin_url": "https://app.netlify.com/sites/shop",
            "published_deploy": published,
            "prevent_non_git_prod_deploys": self.git_only,
            "build_settings": {"repo_branch": self.production_branch} if self.production_branch else {},
        }
        return JSONResponse({key: value for key, value in document.items() if value is not None})

    async def build(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        branch = request.query_params["branch"]
        made = self._make(request, branch, branch == self.production_branch, branch=branch, commit_ref=COMMIT)
        made.life = asyncio.create_task(self._live(made))
        return JSONResponse({"id": f"build-{made.id}", "deploy_id": made.id, "done": False, "created_at": made.created})

    async def create(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        body = await request.json()
        made = self._make(request, "files", not body["draft"], branch=body.get("branch", "main"))
        made.files, made.known = body["files"], self.known
        made.becomes("preparing" if body["async"] else "uploading")
        made.life = asyncio.create_task(self._take_over(made))
        return JSONResponse(self._document(made))

    async def list_(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        found = []
        for made in reversed(self.made.values()):
            if made.hidden_for:
                made.hidden_for -= 1
            else:
                found.append(made)
        page, size = int(request.query_params.get("page", 1)), int(request.query_params.get("per_page", 100))
        return JSONResponse([self._document(made) for made in found[(page - 1) * size : page * size]])

    async def read(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        made = self.made.get(request.path_params["id"])
        return JSONResponse(self._document(made)) if made else _error(404, "Not Found")

    async def cancel(self, request: Request) -> Response:
        made = self.made.get(request.path_params["id"])
        if made is None:
            return _error(404, "Not Found")
        if made.over:
            return _error(422, "it cannot be canceled")
        if made.life is not None:
            made.life.cancel()
        made.becomes("error", error_message="Canceled build")
        return JSONResponse(self._document(made), 201)

    async def restore(self, request: Request) -> Response:
        made = self.made.get(request.path_params["id"])
        if made is None or made.state != "ready":
            return _error(422, "it is not ready")
        self.creates[f"restore {made.id}"] += 1
        if self.restores:
            self.live, self.locked = made.id, False
        return JSONResponse(self._document(made), 201)

    async def lock(self, request: Request) -> Response:
        made = self.made[request.path_params["id"]]
        self.locked = self.locks
        return JSONResponse(self._document(made) | {"locked": True})

    async def log(self, request: Request) -> Response:
        made = self.made.get(request.path_params["id"])
        return JSONResponse(made.log) if made and self.has_logs else _error(404, "Not Found")

    async def take(self, request: Request) -> Response:
        made = self.made[request.path_params["id"]]
        path, content = request.path_params["path"].replace(_SLASH, "/"), await request.body()
        if made.files.get(path) != _sha1(content):
            return _error(422, "it is not what was announced")
        made.taken[path] = content
        return JSONResponse({"id": f"/{path}", "path": f"/{path}", "sha": _sha1(content), "size": len(content)})

    async def list_variables(self, request: Request) -> Response:
        return self._refused(request) or JSONResponse(list(self.variables.values()))

    async def add_variables(self, request: Request) -> Response:
        variables = await request.json()
        if any(variable["key"] in self.variables for variable in variables):
            return _error(422, "a variable of that name exists")
        self.variables |= {variable["key"]: variable for variable in variables}
        return JSONResponse(variables, 201)

    async def set_variable(self, request: Request) -> Response:
        variable = self.variables.get(request.path_params["key"])
        if variable is None:
            return _error(404, "Not Found")
        new = await request.json()
        where = (new["context"], new.get("context_parameter"))
        kept = [one for one in variable["values"] if (one["context"], one.get("context_parameter")) != where]
        variable["values"] = [*kept, new]
        return JSONResponse(variable, 201)

    # What it does by itself

    async def _live(self, made: Made) -> None:
        if made.plan == "frozen":
            return
        await asyncio.sleep(0.02)
        made.becomes("building")
        if made.plan == "endless":
            return
        for number in range(LINES):
            made.write(f"line {number}")
        await asyncio.sleep(0.05)
        if made.plan == "failing":
            made.write("the page has no title", level="error")
            made.becomes("error", error_message="Failed during stage 'building site': exit code 2", deploy_time=3)
            return
        made.becomes("processing")
        await asyncio.sleep(0.05)
        self.is_ready(made)

    async def _take_over(self, made: Made) -> None:
        await asyncio.sleep(0.02)
        if made.state == "preparing":
            made.becomes("prepared")
        while made.required:
            await asyncio.sleep(0.01)
        made.becomes("processing")
        if any(path.startswith("endless") for path in made.files):
            return
        await asyncio.sleep(0.02)
        if "failing.html" in made.files:
            made.becomes("error", error_message="the page has no title")
        else:
            self.is_ready(made)

    def is_ready(self, made: Made) -> None:
        made.becomes("ready", deploy_time=4)
        if made.production and not self.locked and self.publishes:
            self.live = made.id

    # What it says

    def _make(self, request: Request, plan: str, production: bool, **more: Any) -> Made:
        title = request.query_params.get("title", "")
        made = Made(f"d{next(self._numbers)}", title, plan, production, hidden_for=self.list_lags)
        made.more |= more
        self.made[made.id] = made
        self.creates[title.removeprefix("Headway ")] += 1
        return made

    @staticmethod
    def _refused(request: Request) -> Response | None:
        return None if request.headers["authorization"] == f"Bearer {TOKEN}" else _error(401, "Access Denied")

    @staticmethod
    def _document(made: Made) -> dict[str, Any]:
        document = {
            "id": made.id,
            "site_id": SITE,
            "build_id": f"build-{made.id}",
            "title": made.title,
            "state": made.state,
            "created_at": made.created,
            "context": "production" if made.production else "branch-deploy",
            "name": "shop",
            "url": "http://shop.example.org",
            "ssl_url": "https://shop.example.org",
            "admin_url": "https://app.netlify.com/sites/shop",
            "deploy_url": f"http://{made.id}--shop.netlify.app",
            "deploy_ssl_url": f"https://{made.id}--shop.netlify.app",
            "required": [] if made.state == "preparing" else made.required,
            "draft": made.plan == "files" and not made.production,
        }
        return document | made.more


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _error(status: int, message: str) -> Response:
    return JSONResponse({"code": status, "message": message}, status)
