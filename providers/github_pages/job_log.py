"""The log of a job, which GitHub hands over once the job has ended: a link that lives for a minute, to plain text.

Rule: a log never fails a deployment. What cannot be had now is `NotYet`, what never can be is `NoLog`.
"""

import re
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from urllib.parse import urlsplit

from domain.errors import DeploymentError, ErrorCode
from domain.log import LogLine
from providers.github_pages.calls import FETCH_LOG, LINK_TO_LOG, Job
from providers.github_pages.repository import Repository
from providers.http import link, plain

LINES_AT_ONCE = 1000
BYTES_AT_ONCE = 1024 * 1024
MOST_OF_A_LOG = 64 * 1024 * 1024
LINE_BYTES = 256 * 1024
EXCERPT_LINES = 20
EXCERPT_LENGTH = 1000
ERROR_MARK = "##[error]"

_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z) ?(.*)", re.DOTALL)
_EXIT_CODE = re.compile(r"exit code (\d{1,9})\b")
_GONE = {404: "GitHub has none", 410: "GitHub has deleted it"}


class NotYet(Exception):
    """It may be there later; why it is not there now."""


class NoLog(Exception):
    """There is none; why."""


async def read_log(repository: Repository, job: Job, skip: int = 0) -> AsyncGenerator[list[LogLine], None]:
    """The lines of an ended job after the first `skip` ones, at most a thousand at a time; also those before it breaks.

    Raises:
        NotYet, NoLog: as said; and what keeps us from asking GitHub.
    """
    batch: list[LogLine] = []
    size = 0
    at = job.completed_at or datetime.now(UTC)
    async with aclosing(_texts(repository, await _link(repository, job))) as texts:
        try:
            async for number, text in texts:
                if (stamped := _STAMPED.fullmatch(text)) is not None:
                    at, text = _moment(stamped[1], at), stamped[2]  # noqa: PLW2901 - what is left of it
                if number <= skip:
                    continue
                batch.append(LogLine(timestamp=at, message=text, step=plain(job.name, 100)))
                size += len(text)
                if len(batch) == LINES_AT_ONCE or size > BYTES_AT_ONCE:
                    yield batch
                    batch, size = [], 0
        except (NotYet, NoLog):
            if batch:
                yield batch
            raise
    if batch:
        yield batch


async def error_in(repository: Repository, job: Job) -> tuple[list[str], int | None]:
    """The last lines up to the error that ended a job, and the exit code that it tells; nothing where there is none."""
    last: deque[str] = deque(maxlen=EXCERPT_LINES)
    found: tuple[list[str], int | None] = ([], None)
    try:
        async with aclosing(read_log(repository, job)) as batches:
            async for batch in batches:
                for line in batch:
                    last.append(line.message[:EXCERPT_LENGTH])
                    if line.message.startswith(ERROR_MARK):
                        code = _EXIT_CODE.search(line.message)
                        found = (list(last), int(code[1]) if code else None)
    except (NotYet, NoLog, DeploymentError):
        return found
    return found


async def _link(repository: Repository, job: Job) -> str:
    """Where the text is. Never from https to http: the link itself is a credential."""
    try:
        answer = await repository.ask(LINK_TO_LOG, job=str(job.id))
    except DeploymentError as error:
        if error.code in {ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE}:
            raise  # it is not about the log
        raise (NotYet if error.retryable else NoLog)(error.message) from None
    if answer.status in _GONE:
        raise (NotYet if answer.status == 404 else NoLog)(_GONE[answer.status])
    found = link(answer.headers.get("location"))
    if found is None or (repository.is_encrypted and not found.startswith("https:")):
        raise NoLog("GitHub answered with what is no link")
    return found


async def _texts(repository: Repository, found: str) -> AsyncGenerator[tuple[int, str], None]:
    """Numbered from one. The byte order mark that a log begins with is no part of it."""
    number, size = 0, 0
    storage = repository.elsewhere(found, urlsplit(found).netloc)
    try:
        async with storage.stream(FETCH_LOG, max_line_bytes=LINE_BYTES) as lines:
            async for line in lines:
                number += 1
                size += len(line)
                if size > MOST_OF_A_LOG:
                    raise NoLog(f"it has more than {MOST_OF_A_LOG // 1024**2} MiB, the rest is left out")
                yield number, line.decode("utf-8", "replace").removeprefix("\ufeff")
    except DeploymentError as error:
        # Storage refuses a link that is too old, so that a refusal, too, is only one for now.
        raise NotYet(error.message) from None


def _moment(text: str, otherwise: datetime) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return otherwise
