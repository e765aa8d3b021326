"""Logs: pages, downloads, the live stream, and the search over a project.

Rule: a line's number is its id, its place in the order and the cursor to resume after, everywhere.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from api import reach
from api.answers import page_answer
from api.auth import Credentials, Reader
from api.describe import GUARDED, LISTED, described
from api.queries import HOW_MANY, SKIPPED, LineLimit, Moment, Number, Offset, Text, Truth
from api.services import Services, Wired
from api.streams import After, Entry, Event, LastEventId, content, follow, history, position, stream_answer
from domain.deployment import ListDeploymentsOptions
from domain.errors import ErrorCode
from domain.log import DeploymentLog, LogFilter, LogLevel, LogSource
from domain.page import Page, PageRequest
from domain.states import TERMINAL
from domain.wire import rfc3339

router = APIRouter(prefix="/v1", tags=["logs"])

_MOST = 1000
_SEARCHED = 100
"""How many of a project's newest deployments a search looks into."""

_PLAIN = "text/plain"
_PAGE = Page[DeploymentLog]
_REFUSED = (GUARDED, LISTED)


def _filter(
    level: Annotated[LogLevel | None, Query(description="that and above")] = None,
    step: Annotated[Text | None, Query()] = None,
    source: Annotated[LogSource | None, Query()] = None,
    since: Annotated[Moment | None, Query(description="lines from then on")] = None,
    q: Annotated[Text | None, Query(description="a part of the message")] = None,
) -> LogFilter:
    return LogFilter(level=level, step=step, source=source, since=since, query=q)


Wanted = Annotated[LogFilter, Depends(_filter)]


@router.get(
    "/deployments/{deployment_id}/logs",
    operation_id="getLogs",
    summary="Lines of a deployment's log, in order; with `Accept: text/plain` all of them as a download",
    **described(
        200,
        {
            "application/json": {"schema": {"$ref": "#/components/schemas/DeploymentLogPage"}},
            _PLAIN: {"schema": {"type": "string"}},
        },
        *_REFUSED,
        ErrorCode.NOT_FOUND,
        headers=("Link", "Content-Disposition"),
        what="`total` is null; `nextCursor` is sent back as `cursor` or `after`",
    ),
)
async def get_logs(
    *,
    request: Request,
    services: Wired,
    caller: Reader,
    deployment_id: str,
    wanted: Wanted,
    limit: Annotated[LineLimit, HOW_MANY] = 20,
    offset: Annotated[Offset, SKIPPED] = 0,
    after: Annotated[Number | None, Query(description="lines after this one")] = None,
    cursor: Annotated[Number | None, Query(description="the same, as `nextCursor` has it")] = None,
    tail: Annotated[LineLimit | None, Query(description="the last so many; `offset` does not apply")] = None,
) -> Response:
    deployment = await reach.deployment(services, caller, deployment_id)
    start = after if after is not None else cursor or 0
    if _PLAIN in request.headers.get("accept", ""):
        return _download(services, deployment.id, wanted, start, tail)
    found = await services.logs.page(
        deployment.id, wanted, limit=limit, offset=offset, after=start, tail=tail and min(tail, limit)
    )
    page = _PAGE(
        items=found.lines,
        total=None,
        limit=limit,
        offset=offset,
        next_cursor=None if found.cursor is None else str(found.cursor),
    )
    return page_answer(request, page)


def _download(services: Services, deployment_id: str, wanted: LogFilter, start: int, tail: int | None) -> Response:
    async def text() -> AsyncIterator[str]:
        after: int | None = start
        while after is not None:
            page = await services.logs.page(deployment_id, wanted, limit=_MOST, after=after, tail=tail)
            yield "".join(_plain(line) for line in page.lines)
            after = page.cursor

    name = f'attachment; filename="deployment-{deployment_id}.log"'
    return StreamingResponse(text(), media_type=_PLAIN, headers={"Content-Disposition": name})


def _plain(line: DeploymentLog) -> str:
    where = f" [{line.step}]" if line.step else ""
    return f"{rfc3339(line.timestamp)} {line.level:<5}{where} {line.message}\n"


@router.get(
    "/deployments/{deployment_id}/logs/stream",
    operation_id="streamLogs",
    summary="The log so far, then live until the deployment has ended",
    **described(
        200,
        content("log", "DeploymentLog"),
        *_REFUSED,
        ErrorCode.NOT_FOUND,
        what="events `log`, each a DeploymentLog with its number as id, then one `end`",
    ),
)
async def stream_logs(
    *,
    request: Request,
    services: Wired,
    caller: Reader,
    credentials: Credentials,
    deployment_id: str,
    wanted: Wanted,
    live: Annotated[Truth, Query(alias="follow", description="false: end after what is there")] = True,
    after: After = None,
    last_event_id: LastEventId = None,
) -> Response:
    deployment = await reach.deployment(services, caller, deployment_id)

    async def read(cursor: int) -> tuple[list[Event], bool]:
        # The status first: what was written before a final one is in the page that is read after it.
        status = (await services.deployments.get(deployment.id)).status
        lines = await services.logs.page(deployment.id, wanted, limit=_MOST, after=cursor)
        events = [Event.of("log", int(line.id), line) for line in lines.lines]
        return events, status in TERMINAL

    async def entries() -> AsyncIterator[Entry]:
        start = position(after, last_event_id)
        if not live:
            async for entry in history(read, start):
                yield entry
            return
        async with services.listener.watch(deployment.id) as wake:
            async for entry in follow(wake, read, start, services.passes.of(credentials)):
                yield entry

    return stream_answer(request, services, "logs", entries())


@router.get(
    "/projects/{project_id}/logs/search",
    operation_id="searchLogs",
    summary=f"Lines of a project's {_SEARCHED} newest deployments, newest deployment first",
    **described(200, _PAGE, *_REFUSED, ErrorCode.PROJECT_NOT_FOUND, headers=("Link",), what="`total` is null"),
)
async def search_logs(
    *,
    request: Request,
    services: Wired,
    caller: Reader,
    project_id: str,
    wanted: Wanted,
    until: Annotated[Moment | None, Query(description="lines before then")] = None,
    limit: Annotated[LineLimit, HOW_MANY] = 20,
    offset: Annotated[Offset, SKIPPED] = 0,
    cursor: Annotated[Offset | None, Query(description="the same, as `nextCursor` has it")] = None,
) -> Response:
    reach.check_project(caller, project_id)
    start = offset if cursor is None else cursor
    newest = await services.deployments.list_of_project(
        project_id, ListDeploymentsOptions(), PageRequest(limit=_SEARCHED)
    )
    found: list[DeploymentLog] = []
    for deployment in newest.items:
        if len(found) > start + limit:
            break
        lines = await services.logs.page(deployment.id, wanted, limit=start + limit + 1 - len(found))
        found += [line for line in lines.lines if until is None or line.timestamp < until]
    more = len(found) > start + limit
    page = _PAGE(
        items=found[start : start + limit],
        total=None,
        limit=limit,
        offset=start,
        next_cursor=str(start + limit) if more else None,
    )
    return page_answer(request, page)
