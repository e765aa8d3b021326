"""The live log: one reader for each log and filter that somebody watches, whatever the number of viewers.

Rules: what is new is read once; viewers take it in whole blocks from a small ring. A viewer that is behind the ring
reads the database on its own until it has caught up. Nobody waits for a viewer. A log has ended when there is nothing
new after its final status was read: what was written before that is told.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from api import connection, streams
from api.log_ring import BLOCK_BYTES, Piece, Ring, blocks_of, taken
from api.passes import Passes
from api.queries import MAX_LINE
from api.streams import Form
from domain.errors import DeploymentError, ErrorCode
from domain.log import LogFilter, LogPage
from domain.states import TERMINAL
from store.deployments import DeploymentStore
from store.listener import Listener
from store.logs import LogStore

EVERY_LINE = LogFilter()

_PAGE_LINES = 1000
_FIRST_LINES = 200
"""Of a ring, the end of the log: who comes back after a moment finds its next line there. Of a viewer that catches up,
its first page: it may be one that comes and goes."""

_PAGE_BYTES = 4 * BLOCK_BYTES
"""What a viewer that catches up holds."""

_RING_SECONDS = 30.0
_LINGER_SECONDS = 5.0
"""For which a feed without viewers stays: some come back at once."""

_LIVE_READS, _OTHER_READS = 4, 3
"""At a time, so that connections are left for everybody else."""

_REREAD_SECONDS = 30.0
"""Without a wake-up. The listener sees to it that none is lost; this is for the day when it errs."""

_PAUSE_SECONDS = 1.0
"""Until a database that was away is asked again."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Key:
    """What is watched: viewers of the same share a feed."""

    deployment_id: str
    wanted: LogFilter = EVERY_LINE


@dataclass(eq=False, slots=True)
class Viewer:
    """One open stream: all up to `position` is sent; `told` is when it last was sent something."""

    key: Key
    position: int = 0
    form: Form = streams.EVENTS
    token: str = ""
    told: float = field(default_factory=time.monotonic)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    dismissed: bool = False
    work: asyncio.Task[Piece] | None = None
    page_lines: int = _FIRST_LINES

    def dismiss(self) -> None:
        self.dismissed = True
        self.news.set()

    @property
    def silent(self) -> bool:
        return time.monotonic() - self.told >= streams.HEARTBEAT_SECONDS


@dataclass(eq=False, slots=True)
class Feed:
    """A log as its viewers share it. `ring` is None until the log has been looked at; `left_at` is when the last viewer
    left."""

    ring: Ring | None = None
    ended: bool = False
    failure: Exception | None = None
    viewers: set[Viewer] = field(default_factory=set)
    left_at: float = 0.0
    reader: asyncio.Task[None] | None = None

    def tell(self) -> None:
        for viewer in self.viewers:
            viewer.news.set()


_PAST = Feed(Ring(MAX_LINE), ended=True)
"""Of a log to which nothing is added: all of it is behind the ring."""


class LogFeeds:
    """All feeds of this process."""

    def __init__(self, logs: LogStore, deployments: DeploymentStore, listener: Listener, passes: Passes) -> None:
        self._logs = logs
        self._deployments = deployments
        self._listener = listener
        self._passes = passes
        self._feeds: dict[Key, Feed] = {}
        self._viewers: set[Viewer] = set()
        self._live_reads = asyncio.Semaphore(_LIVE_READS)
        self._other_reads = asyncio.Semaphore(_OTHER_READS)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "LogFeeds":
        self._tasks = [asyncio.create_task(self._keep_time()), asyncio.create_task(self._check_tokens())]
        return self

    async def __aexit__(self, *_: object) -> None:
        readers = [feed.reader for feed in self._feeds.values() if feed.reader is not None]
        for task in (*self._tasks, *readers):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def view(self, viewer: Viewer, *, live: bool) -> AsyncGenerator[bytes, None]:
        """The wanted lines after the viewer's position, where it is `live` those to come included, and then the end.

        There is no end when the token is no longer valid or the server stops.
        """
        feed = self._join(viewer) if live else _PAST
        self._viewers.add(viewer)
        try:
            while not viewer.dismissed:
                viewer.news.clear()
                piece = self._next(viewer, feed)
                if piece is not None:
                    for part in piece.parts:
                        yield part
                        viewer.told = time.monotonic()
                        if viewer.dismissed:
                            return
                    viewer.position = piece.position
                    if piece.last:
                        return
                elif viewer.silent:
                    yield viewer.form.heartbeat
                    viewer.told = time.monotonic()
                else:
                    await viewer.news.wait()
        finally:
            if viewer.work is not None:
                viewer.work.cancel()
            self._viewers.discard(viewer)
            feed.viewers.discard(viewer)
            feed.left_at = time.monotonic()

    def _next(self, viewer: Viewer, feed: Feed) -> Piece | None:
        """What can be sent now. None when the viewer has to wait; it hears when that is over."""
        if viewer.work is not None:
            if not viewer.work.done():
                return None
            piece, viewer.work = viewer.work.result(), None
            return piece
        if feed.failure is not None:
            raise feed.failure
        if feed.ring is None:
            return None
        blocks = feed.ring.after(viewer.position)
        if blocks:
            return taken(blocks, viewer.position, viewer.form)
        if blocks is None:
            viewer.work = asyncio.create_task(self._history(viewer, feed.ring))
            viewer.work.add_done_callback(lambda _: viewer.news.set())
        elif feed.ended:
            return Piece([viewer.form.end], viewer.position, last=True)
        return None

    async def _history(self, viewer: Viewer, ring: Ring) -> Piece:
        """A page of what the ring does not hold; of long lines fewer."""
        reached = ring.head  # before it is read: with the last page, all up to there is done with
        position = viewer.position
        page = await self._page(self._other_reads, viewer.key, position, viewer.page_lines)
        parts: list[bytes] = []
        size = 0
        for block in blocks_of(page.lines, position):
            if size > _PAGE_BYTES:
                viewer.page_lines = max(1, viewer.page_lines // 4)
                return Piece(parts, position)
            parts.append(block.written(viewer.form))
            position, size = block.last, size + block.bytes
        viewer.page_lines = min(2 * viewer.page_lines, _PAGE_LINES)
        return Piece(parts, max(position, reached) if page.cursor is None else page.cursor)

    # --- readers ---

    def _join(self, viewer: Viewer) -> Feed:
        feed = self._feeds.get(viewer.key)
        if feed is None or feed.failure is not None:
            feed = self._feeds[viewer.key] = Feed()
            feed.reader = asyncio.create_task(self._read(feed, viewer.key))
        feed.viewers.add(viewer)
        return feed

    async def _read(self, feed: Feed, key: Key) -> None:
        try:
            await (self._read_all(feed, key) if key.wanted == EVERY_LINE else self._read_chosen(feed, key))
            feed.ended = True
        except Exception as error:  # noqa: BLE001  # nobody awaits a reader: its viewers raise what it has met
            feed.failure = error
        feed.tell()

    async def _read_all(self, feed: Feed, key: Key) -> None:
        async with self._listener.watch(key.deployment_id) as wake:
            last = await self._page(self._live_reads, key, 0, _FIRST_LINES, tail=_FIRST_LINES)
            ring = feed.ring = Ring(int(last.lines[0].id) - 1 if last.lines else 0)
            ring.add(last.lines)
            feed.tell()
            ended = False
            while True:
                page = await self._page(self._live_reads, key, ring.head)
                if page.lines:
                    ring.add(page.lines)
                    feed.tell()
                elif ended:
                    return
                else:
                    ended = await self._patiently(self._live_reads, lambda: self._has_ended(key.deployment_id))
                    if not ended:
                        await wake.wait(_REREAD_SECONDS)

    async def _has_ended(self, deployment_id: str) -> bool:
        return (await self._deployments.get(deployment_id)).status in TERMINAL

    async def _read_chosen(self, feed: Feed, key: Key) -> None:
        """As the whole log grows, the store chooses from what is new: nothing is looked through twice."""
        reader = Viewer(Key(key.deployment_id))
        whole = self._join(reader)
        try:
            while True:
                reader.news.clear()
                if whole.failure is not None:
                    raise whole.failure
                if whole.ring is not None:
                    ended, goal = whole.ended, whole.ring.head
                    await self._choose(feed, key, goal)
                    if ended:
                        return
                await reader.news.wait()
        finally:
            whole.viewers.discard(reader)
            whole.left_at = time.monotonic()

    async def _choose(self, feed: Feed, key: Key, goal: int) -> None:
        """Looks through all up to line `goal`."""
        ring = feed.ring = feed.ring or Ring(goal)
        feed.tell()
        while ring.head < goal:
            page = await self._page(self._other_reads, key, ring.head)
            ring.add(page.lines, goal if page.cursor is None else page.cursor)
            feed.tell()

    async def _page(
        self, slots: asyncio.Semaphore, key: Key, after: int, limit: int = _PAGE_LINES, tail: int | None = None
    ) -> LogPage:
        return await self._patiently(
            slots, lambda: self._logs.page(key.deployment_id, key.wanted, limit=limit, after=after, tail=tail)
        )

    async def _patiently(self, slots: asyncio.Semaphore, read: Callable[[], Awaitable[Found]]) -> Found:
        """A database that is away for a moment is a pause of the stream, not its end."""
        while True:
            try:
                async with slots:
                    return await read()
            except DeploymentError as error:
                if error.code is not ErrorCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(_PAUSE_SECONDS)

    # --- what happens once a second, for all viewers together ---

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(1)
            stops, now = connection.server_stops(), time.monotonic()
            for key, feed in list(self._feeds.items()):
                if feed.ring is not None:
                    feed.ring.forget(now - _RING_SECONDS)
                if not feed.viewers and feed.reader is not None and now - feed.left_at > _LINGER_SECONDS:
                    feed.reader.cancel()
                    del self._feeds[key]
            for viewer in self._viewers:
                if stops:
                    viewer.dismiss()
                elif viewer.silent:
                    viewer.news.set()

    async def _check_tokens(self) -> None:
        while True:
            await asyncio.sleep(streams.TOKEN_CHECK_SECONDS)
            for token in {viewer.token for viewer in self._viewers}:
                if not await self._passes.valid(token):
                    for viewer in self._viewers:
                        if viewer.token == token:
                            viewer.dismiss()
