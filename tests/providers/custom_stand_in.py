"""A deploy server whose builds stay as the test leaves them, with faults: the one of examples/custom-provider in small.

It has what that one does not have: a log as plain text, by offset and by range, and one in the status.
"""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.base import BuildRequest
from tests.providers.conftest import build_request
from tests.providers.stand_in import StandIn

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom-provider"
TOKEN = "token-of-the-deploy-server"
PAGE = 400


def described(base_url: str, **changed: Any) -> dict[str, Any]:
    """The example's description for a server at this address, with further fields; None takes one away."""
    settings = json.loads((EXAMPLE / "provider-settings.json").read_text())
    settings |= {"baseUrl": base_url, "poll": {"shortestSeconds": 0.1, "longestSeconds": 0.2}}
    return merged(settings, changed)


def merged(settings: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    result = dict(settings)
    for name, value in changed.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result


def asked_for(settings: dict[str, Any], ref: str = "well", **more: Any) -> BuildRequest:
    asked = {"secrets": {"DEPLOY_TOKEN": TOKEN}, **more}
    return build_request("https://git.example.org/shop.git", ref=ref, settings=settings, **asked)


@dataclass
class Made:
    id: str
    body: dict[str, Any]
    status: str = "queued"
    more: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    partial: str = ""
    hidden_for: int = 0

    @property
    def text(self) -> bytes:
        return ("".join(f"{line}\n" for line in self.lines) + self.partial).encode()


class CustomStandIn(StandIn):
    description = "custom"

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[str, Made] = {}
        self.knows_keys = False
        self.list_lags = 0
        self.ranges = True
        self._numbers = itertools.count(1)

    def routes(self) -> list[Route]:
        return [
            Route("/deployments", self.create, methods=["POST"]),
            Route("/deployments", self.find, methods=["GET"]),
            Route("/deployments/{id}", self.read, methods=["GET"]),
            Route("/deployments/{id}/log", self.log, methods=["GET"]),
            Route("/deployments/{id}/text", self.text, methods=["GET"]),
            Route("/deployments/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/deployments/{id}/publish", self.publish, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _error(401, "wrong token")
        body = await request.json()
        key = request.headers["idempotency-key"]
        known = next((made for made in self.made.values() if self.knows_keys and made.more["key"] == key), None)
        if known is not None:
            return JSONResponse(self._document(known))
        made = Made(f"b{next(self._numbers)}", body, hidden_for=self.list_lags, more={"key": key})
        self.made[made.id] = made
        self.creates[body["key"]] += 1
        return JSONResponse(self._document(made), 201)

    async def find(self, request: Request) -> Response:
        found = []
        for made in self.made.values():
            if made.body["key"] != request.query_params["key"]:
                continue
            if made.hidden_for:
                made.hidden_for -= 1
            else:
                found.append(self._document(made))
        return JSONResponse({"deployments": found})

    async def read(self, request: Request) -> Response:
        made = self.made.get(request.path_params["id"])
        return JSONResponse(self._document(made)) if made else _error(404, "no such deployment")

    async def log(self, request: Request) -> Response:
        made = self.made.get(request.path_params["id"])
        if made is None:
            return _error(404, "no such deployment")
        after = int(request.query_params.get("after", "0"))
        page = made.lines[after : after + PAGE]
        lines = [{"n": after + number, "text": text} for number, text in enumerate(page, 1)]
        return JSONResponse({"lines": lines, "next": after + len(lines)})

    async def text(self, request: Request) -> Response:
        made = self.made.get(request.path_params["id"])
        if made is None:
            return Response("no such deployment", 404, media_type="text/plain")
        asked = request.headers.get("range", "")
        if asked and not self.ranges:
            return Response(made.text, media_type="text/plain")
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else None
        if first is not None and first >= len(made.text):
            return Response("nothing there", 416, media_type="text/plain")
        start = first if first is not None else int(request.query_params.get("offset", "0"))
        return Response(made.text[start:], 200 if first is None else 206, media_type="text/plain")

    async def cancel(self, request: Request) -> Response:
        made = self.made.get(request.path_params["id"])
        if made is None or made.status in {"succeeded", "failed", "canceled"}:
            return _error(409, "it has ended")
        made.status = "canceled"
        return JSONResponse(self._document(made), 202)

    async def publish(self, request: Request) -> Response:
        made = self.made.get(request.path_params["id"])
        if made is None or made.status != "succeeded":
            return _error(409, "it is not built")
        for other in self.made.values():
            other.more["live"] = other is made
        made.more["url"] = "https://shop.example.org/"
        self.creates[f"publish {made.id}"] += 1
        return JSONResponse(self._document(made))

    @staticmethod
    def _document(made: Made) -> dict[str, Any]:
        preview = [f"https://{made.id}.example.org/"]
        known = {"id": made.id, "key": made.body["key"], "status": made.status, "preview": preview, "log": made.lines}
        return known | {name: value for name, value in made.more.items() if name != "key"}


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"code": "refused", "message": message}}, status)
