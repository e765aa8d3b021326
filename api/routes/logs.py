"""Logs: pages, downloads, the live stream, and the search over a project.

Rules: a line's number is its id, its place in the order and the cursor to resume after, everywhere. Looking for lines
has a time budget: an answer then has fewer of them, or none, and says where to go on.
"""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from api import reach
from api.answers import page_answer
from api.auth import Credentials, Reader
from api.describe import GUARDED, LISTED, described
from api.log_feed import Key, Viewer
from api.queries import HOW_MANY, SKIPPED, Context, LineLimit, Moment, Number, Offset, SearchCursor, Text, Truth
from api.services import Services, Wired
from api.streams import After, LastEventId, StreamAnswer, content, form_of, position
from domain.errors import ErrorCode
from domain.log import DeploymentLog, LogFilter, LogLevel, LogMatch, LogSource
from domain.page import Page
from store.log_match import Matcher

router = APIRouter(prefix="/v1", tags=["logs"])

_MOST = 1000
_PLAIN = "text/plain"
_REFUSED = (GUARDED, LISTED)
_PARTIAL = "`total` is null. Looking has a time budget: there may be fewer items, or none, and still a `nextCursor`"


def _filter(
    *,
    level: Annotated[LogLevel | None, Query(description="that and above")] = None,
    step: Annotated[Text | None, Query()] = None,
    source: Annotated[LogSource | None, Query()] = None,
    since: Annotated[Moment | None, Query(description="lines from then on")] = None,
    until: Annotated[Moment | None, Query(description="lines before then")] = None,
    q: Annotated[Text | None, Query(description="a part of the message, as it reads without colours")] = None,
    regex: Annotated[Truth, Query(description="`q` is a regular expression (RE2)")] = False,
    case_sensitive: Annotated[Truth, Query(alias="caseSensitive", description="for `q`")] = False,
) -> LogFilter:
    """Filters that choose the same lines are equal."""
    return LogFilter(
        level=level,
        step=step,
        source=source,
        since=since,
        until=until,
        query=q or None,
        regex=bool(q) and regex,
        case_sensitive=bool(q) and case_sensitive,
    )


Wanted = Annotated[LogFilter, Depends(_filter)]


_PAGE = described(
    200,
    Page[DeploymentLog],
    *_REFUSED,
    ErrorCode.NOT_FOUND,
    headers=("Link", "Content-Disposition"),
    what=_PARTIAL,
)
_PAGE["responses"][200]["content"] = {_PLAIN: {"schema": {"type": "string"}}}


@router.get(
    "/deployments/{deployment_id}/logs",
    operation_id="getLogs",
    summary="Lines of a deployment's log, in order; with `Accept: text/plain` all of them as a download",
    **_PAGE,
)
async def get_logs(
    *,
    request: Request,
    services: Wired,
    caller: Reader,
    deployment_id: str,
    wanted: Wanted,
    limit: Annotated[LineLimit, HOW_MANY] = 20,
    offset: Annotated[Number, SKIPPED] = 0,
    after: Annotated[Number | None, Query(description="lines after this one")] = None,
    cursor: Annotated[Number | None, Query(description="`nextCursor` of the page before; it wins over `after`")] = None,
    tail: Annotated[LineLimit | None, Query(description="the last so many; `offset` does not apply")] = None,
    timestamps: Annotated[Truth, Query(description="false: a download without times")] = True,
) -> Response:
    deployment_id = (await reach.deployment(services, caller, deployment_id)).id
    start = cursor if cursor is not None else after or 0
    if _PLAIN in request.headers.get("accept", ""):
        return await _download(services, deployment_id, wanted, start, tail, timestamps=timestamps)
    found = await services.logs.page(
        deployment_id, wanted, limit=limit, offset=offset, after=start, tail=tail and min(tail, limit)
    )
    page = Page[DeploymentLog](
        items=found.lines,
        total=None,
        limit=limit,
        offset=offset,
        next_cursor=None if found.cursor is None else str(found.cursor),
    )
    return page_answer(request, page)


async def _download(
    services: Services, deployment_id: str, wanted: LogFilter, start: int, tail: int | None, *, timestamps: bool
) -> Response:
    async def text() -> AsyncGenerator[bytes, None]:
        page = await services.logs.page(deployment_id, wanted, limit=_MOST, after=start, tail=tail)
        while True:
            yield "".join(f"{line.as_text(timestamp=timestamps)}\n" for line in page.lines).encode()
            if page.cursor is None:
                return
            page = await services.logs.page(deployment_id, wanted, limit=_MOST, after=page.cursor)

    lines = text()
    return StreamAnswer(
        lines,
        _PLAIN,
        counted=services.metrics.open_stream("downloads"),
        first=await anext(lines),
        headers={"Content-Disposition": f'attachment; filename="deployment-{deployment_id}.log"'},
    )


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
    viewer = Viewer(
        Key(deployment.id, wanted),
        position(after, last_event_id),
        form_of(request),
        token=credentials.credentials if credentials else "",
    )
    live = live and not deployment.ended
    lines = services.log_feeds.view(viewer, live=live)
    # What cannot be read is refused now: once the answer has begun, there is no way left to say so.
    Matcher(wanted)
    first = b"" if live else await anext(lines, b"")
    counted = services.metrics.open_stream("logs")
    return StreamAnswer(lines, viewer.form.media_type, counted=counted, first=first)


@router.get(
    "/projects/{project_id}/logs/search",
    operation_id="searchLogs",
    summary="Lines of a project's logs, newest deployment first, each with the lines around it",
    **described(200, Page[LogMatch], *_REFUSED, ErrorCode.PROJECT_NOT_FOUND, headers=("Link",), what=_PARTIAL),
)
async def search_logs(
    *,
    request: Request,
    services: Wired,
    caller: Reader,
    project_id: str,
    wanted: Wanted,
    limit: Annotated[LineLimit, HOW_MANY] = 20,
    offset: Annotated[Offset, SKIPPED] = 0,
    context: Annotated[Context, Query(description="lines before and after each")] = 0,
    cursor: Annotated[SearchCursor | None, Query(description="`nextCursor` of the page before")] = None,
) -> Response:
    project_id = (await reach.project(services, caller, project_id)).id
    search = services.logs.search
    left, over = (0 if cursor is not None else offset), False
    while left and not over:
        skipped, cursor = await search(project_id, wanted, limit=min(left, _MOST), cursor=cursor)
        left, over = left - len(skipped), cursor is None
    found, next_cursor = (
        ([], None) if over else await search(project_id, wanted, limit=limit, cursor=cursor, context=context)
    )
    page = Page[LogMatch](items=found, total=None, limit=limit, offset=offset, next_cursor=next_cursor)
    return page_answer(request, page)
