"""The audit: who changed what, as pages or as one export, and whether it is still as it was written. For admins.

Rule: a token that is bound to some projects sees the audit of those alone, and nothing of what belongs to no project.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import StringConstraints

from api import reach
from api.answers import json_answer, page_answer
from api.auth import Admin, Credentials
from api.describe import GUARDED, LISTED, described
from api.queries import Moment, PageQuery, Text
from api.services import Services, Wired
from api.streams import NDJSON
from domain.audit import AuditAnchor, AuditEntry, AuditFilter, AuditReport, name_of
from domain.errors import DeploymentError, ErrorCode
from domain.page import Page
from domain.token import EVERY_PROJECT, Token

router = APIRouter(prefix="/v1/audit", tags=["audit"])

ProjectId = Annotated[Text | None, Query(alias="projectId", description="of this project alone")]
Anchor = Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9-]{0,62}|-):[0-9]{1,18}:[0-9a-f]{64}$")]

_LISTED = described(200, Page[AuditEntry], GUARDED, LISTED, ErrorCode.PROJECT_NOT_FOUND, headers=("Link",))
_LISTED["responses"][200]["content"] = {NDJSON: {"schema": {"type": "string"}}}


async def _filter(
    *,
    services: Wired,
    caller: Admin,
    project_id: ProjectId = None,
    actor: Annotated[Text | None, Query(description="a token's subject, `SENDER:NAME`, or `headway`")] = None,
    action: Annotated[Text | None, Query(description="such as `deployment.trigger`")] = None,
    since: Annotated[Moment | None, Query(description="entries from then on")] = None,
    until: Annotated[Moment | None, Query(description="entries before then")] = None,
) -> AuditFilter:
    projects = await _projects(services, caller, project_id)
    return AuditFilter(projects=projects, actor=actor, action=action, since=since, until=until)


@router.get(
    "",
    operation_id="listAudit",
    summary="Who changed what, newest first; with `Accept: application/x-ndjson` all of it as JSON lines, oldest first",
    **_LISTED,
)
async def list_audit(
    request: Request,
    services: Wired,
    credentials: Credentials,
    wanted: Annotated[AuditFilter, Depends(_filter)],
    page: PageQuery,
) -> Response:
    if NDJSON in request.headers.get("accept", ""):
        lines = _lines(services, wanted, services.passes.of(credentials))
        name = {"Content-Disposition": 'attachment; filename="audit.ndjson"'}
        return StreamingResponse(lines, media_type=NDJSON, headers=name)
    return page_answer(request, await services.audit.list_entries(wanted, page))


@router.get(
    "/verify",
    operation_id="verifyAudit",
    summary="Whether each entry is there, unchanged and in its place; the chains' heads are what to keep elsewhere",
    **described(200, AuditReport, GUARDED, LISTED, ErrorCode.PROJECT_NOT_FOUND),
)
async def verify_audit(
    services: Wired,
    caller: Admin,
    project_id: ProjectId = None,
    anchor: Annotated[list[Anchor], Query(description="of an earlier answer: also that it still holds")] = [],  # noqa: B006  # FastAPI copies it
) -> Response:
    anchors = [AuditAnchor.read(text) for text in anchor]
    for one in anchors:
        if one.project_id is not None or EVERY_PROJECT not in caller.projects:
            reach.check_project(caller, name_of(one.project_id))
    projects = await _projects(services, caller, project_id)
    chains = None if projects is None else {*projects, *(one.project_id for one in anchors)}
    return json_answer(await services.audit.verify(chains, anchors))


async def _projects(services: Services, caller: Token, project_id: str | None) -> list[str] | None:
    """Those whose chains are meant; None: all chains."""
    if project_id is not None:
        return [(await reach.project(services, caller, project_id)).id]
    return None if EVERY_PROJECT in caller.projects else caller.projects


async def _lines(
    services: Services, wanted: AuditFilter, allowed: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    async for entries in services.audit.export(wanted):
        if not await allowed():
            # Raised in the middle of an answer: it breaks off, and nobody takes it for the whole.
            raise DeploymentError(ErrorCode.UNAUTHENTICATED, "the token was revoked during the export")
        yield b"".join(entry.model_dump_json(by_alias=True).encode() + b"\n" for entry in entries)
