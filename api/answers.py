"""Answers: a model written once to bytes, with its entity tag where it has one, and pages of lists with their link."""

import hashlib
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response

from domain.deployment import Deployment
from domain.errors import DeploymentError, ErrorCode
from domain.page import Page
from domain.project import Environment, Project
from domain.wire import Wire

JSON = "application/json"

Tagged = Deployment | Project | Environment


def json_answer(model: Wire | None, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    text = "null" if model is None else model.model_dump_json(by_alias=True)
    return Response(text, status, headers, media_type=JSON)


def entity_tag(version: int, text: str) -> str:
    """Strong: the version alone would not tell two representations of it apart."""
    return f'"{version}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"'


def tagged_answer(
    request: Request, model: Tagged, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """With `ETag`; 304 to a GET whose `If-None-Match` has it."""
    text = model.model_dump_json(by_alias=True)
    tag = entity_tag(model.version, text)
    carried = {"ETag": tag, "Cache-Control": "private, no-cache", **(headers or {})}
    if request.method == "GET" and tag in _tags(request, "if-none-match", weak=True):
        return Response(None, 304, carried)
    return Response(text, status, carried, media_type=JSON)


def check_unchanged(request: Request, model: Tagged) -> int | None:
    """The version that a change may be made to, where `If-Match` says so.

    Raises:
        DeploymentError: precondition-failed, when none of the tags is that of `model`.
    """
    if "if-match" not in request.headers:
        return None
    tag = entity_tag(model.version, model.model_dump_json(by_alias=True))
    if tag not in _tags(request, "if-match", weak=False):
        raise DeploymentError(
            ErrorCode.PRECONDITION_FAILED, f"it was changed meanwhile: its ETag is {tag}; read it again"
        )
    return model.version


class _AnyTag(frozenset[str]):
    def __contains__(self, _: object) -> bool:
        return True


def _tags(request: Request, header: str, *, weak: bool) -> frozenset[str]:
    """The entity tags that were sent. Ours hold no comma, so that a list is parted by commas."""
    sent = [tag.strip() for value in request.headers.getlist(header) for tag in value.split(",")]
    if sent == ["*"]:
        return _AnyTag()
    return frozenset(tag.removeprefix("W/") for tag in sent if weak or not tag.startswith("W/"))


def page_answer(request: Request, page: Page[Any], cursor_name: str = "cursor") -> Response:
    """A page, with a link to the next one."""
    if page.next_cursor is None:
        return json_answer(page)
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in {"offset", cursor_name}]
    target = f"{request.url.path}?{urlencode([*kept, (cursor_name, page.next_cursor)])}"
    return json_answer(page, headers={"Link": f'<{target}>; rel="next"'})
