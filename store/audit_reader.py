"""The audit as admins read it: pages, all of it oldest first, and whether anything of it was changed since.

Rule: to verify is to read what is stored, exactly: times and details as the database writes them, and the heads of the
chains in one snapshot with their entries.
"""

from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Select, select, tuple_

from domain.audit import (
    AuditAnchor,
    AuditChain,
    AuditEntry,
    AuditFault,
    AuditFilter,
    AuditReport,
    canonical,
    entry_hash,
    name_of,
)
from domain.page import Page, PageRequest
from store.audit import hashed, micros
from store.audit_tables import AuditRow
from store.database import Connection, Database, Row, execute
from store.paging import fetch_page, run

_BATCH = 500
_TOLD = 100
"""Faults that a report names; one is enough to know."""

_COLUMNS: Any = AuditRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
_MOMENT = (_COLUMNS.at, _COLUMNS.id)


class AuditReader:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_entries(self, wanted: AuditFilter, page: PageRequest) -> Page[AuditEntry]:
        """Newest first."""
        async with self._database.transaction() as connection:
            return await fetch_page(connection, _chosen(wanted), _MOMENT, page, _entry)

    async def export(self, wanted: AuditFilter) -> AsyncIterator[list[AuditEntry]]:
        """All that match, oldest first; no connection is held between two batches."""
        part = _chosen(wanted).order_by(*_MOMENT).limit(_BATCH)
        rows: list[Row] = []
        while not rows or len(rows) == _BATCH:
            after = part.where(tuple_(*_MOMENT) > tuple_(rows[-1]["at"], rows[-1]["id"])) if rows else part
            async with self._database.connection() as connection:
                rows = await run(connection, after)
            yield [_entry(row) for row in rows]
            if not rows:
                return

    async def verify(self, chains: Collection[str | None] | None, anchors: Iterable[AuditAnchor] = ()) -> AuditReport:
        """Every entry of these chains, by their projects; None: of all chains there are."""
        async with self._database.transaction(patient=True) as connection:
            await execute(connection, "set transaction isolation level repeatable read, read only")
            check = _Check(await _heads(connection, chains), list(anchors))
            async for row in _stored(connection, chains):
                check.entry(row)
        return check.report()


@dataclass
class _Walk:
    """How far one chain has been read."""

    sequence: int = 0
    hash: bytes = b""
    entries: int = 0


@dataclass
class _Check:
    """Reads entries in the order of their chains; says at the end what is wrong with them."""

    heads: dict[str | None, Row]
    anchors: list[AuditAnchor]
    walks: dict[str | None, _Walk] = field(default_factory=dict)
    faults: list[AuditFault] = field(default_factory=list)
    anchored: dict[tuple[str | None, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._wanted = {(anchor.project_id, anchor.sequence) for anchor in self.anchors}

    def entry(self, row: Row) -> None:
        walk = self.walks.setdefault(row["project_id"], _Walk())
        if row["sequence"] != walk.sequence + 1:
            self._fault(row, f"entries are missing between {walk.sequence} and this one")
        elif bytes(row["previous_hash"]) != walk.hash:
            self._fault(row, "it does not follow the entry before it")
        if _computed(row) != bytes(row["hash"]):
            self._fault(row, "it was changed after it was written")
        walk.sequence, walk.hash = row["sequence"], bytes(row["hash"])
        walk.entries += 1
        if (row["project_id"], row["sequence"]) in self._wanted:
            self.anchored[row["project_id"], row["sequence"]] = walk.hash.hex()

    def report(self) -> AuditReport:
        for project_id in self.walks.keys() | self.heads.keys():
            self._compare_head(project_id)
        for anchor in self.anchors:
            self._compare_anchor(anchor)
        chains = [
            AuditChain(
                project_id=project_id,
                entries=walk.entries,
                anchor=str(AuditAnchor(project_id=project_id, sequence=walk.sequence, hash=walk.hash.hex())),
            )
            for project_id, walk in sorted(self.walks.items(), key=lambda item: item[0] or "")
        ]
        return AuditReport(
            valid=not self.faults,
            entries=sum(chain.entries for chain in chains),
            chains=chains,
            faults=self.faults[:_TOLD],
        )

    def _compare_head(self, project_id: str | None) -> None:
        walk, head = self.walks.get(project_id, _Walk()), self.heads.get(project_id)
        where = {"project_id": project_id, "sequence": walk.sequence}
        if head is None:
            self._fault(where, "these entries belong to a project that is not there")
        elif head["audit_sequence"] != walk.sequence:
            self._fault(where, f"the chain ends here, and was written up to {head['audit_sequence']}")
        elif bytes(head["audit_hash"]) != walk.hash:
            self._fault(where, "the last entry is not the one that was written last")

    def _compare_anchor(self, anchor: AuditAnchor) -> None:
        found = self.anchored.get((anchor.project_id, anchor.sequence))
        if found != anchor.hash:
            self._fault(anchor.model_dump(), "the anchor has another entry" if found else "the anchor's entry is gone")

    def _fault(self, where: Row, what: str) -> None:
        place = f"{name_of(where['project_id'])}:{where['sequence']}"
        self.faults.append(AuditFault(where=place, what=what))


def _computed(row: Row) -> bytes | None:
    """None for what was never written like that."""
    try:
        details = orjson.loads(row["details"])
    except ValueError:
        return None
    if canonical(details).decode() != row["details"]:
        return None
    return entry_hash(hashed({**row, "details": details}, int(row["micros"]) if row["micros"].isdecimal() else ""))


async def _heads(connection: Connection, chains: Collection[str | None] | None) -> dict[str | None, Row]:
    cursor = await execute(
        connection,
        "select id, audit_sequence, audit_hash from projects where %(all)s or id = any(%(projects)s::text[])"
        " union all select null, audit_sequence, audit_hash from audit_head where %(all)s or %(without)s",
        _named(chains),
    )
    return {row["id"]: row for row in await cursor.fetchall()}


async def _stored(connection: Connection, chains: Collection[str | None] | None) -> AsyncIterator[Row]:
    async with connection.cursor("audit_entries") as cursor:
        cursor.itersize = _BATCH
        await cursor.execute(
            b"select id, project_id, sequence, actor, token_id, request_id, action, target, reason, before, after,"
            b" previous_hash, hash, details::text as details, trunc(extract(epoch from at) * 1000000)::text as micros"
            b" from audit where %(all)s or project_id = any(%(projects)s::text[]) or %(without)s and project_id is null"
            b' order by project_id collate "C" nulls first, sequence',
            _named(chains),
        )
        async for row in cursor:
            yield row


def _named(chains: Collection[str | None] | None) -> dict[str, Any]:
    projects = [chain for chain in chains or () if chain is not None]
    return {"all": chains is None, "projects": projects, "without": None in (chains or ())}


def _chosen(wanted: AuditFilter) -> Select[Any]:
    chosen = select(AuditRow.__table__)  # type: ignore[attr-defined]  # SQLModel does not declare it
    if wanted.projects is not None:
        chosen = chosen.where(_COLUMNS.project_id.in_(wanted.projects))
    if wanted.actor is not None:
        chosen = chosen.where(_COLUMNS.actor == wanted.actor)
    if wanted.action is not None:
        chosen = chosen.where(_COLUMNS.action == wanted.action)
    if wanted.since is not None:
        chosen = chosen.where(_COLUMNS.at >= wanted.since)
    if wanted.until is not None:
        chosen = chosen.where(_COLUMNS.at < wanted.until)
    return chosen


def _entry(row: Row) -> AuditEntry:
    told = hashed(row, micros(row["at"]))
    return AuditEntry.model_validate({**told, "at": row["at"], "hash": bytes(row["hash"]).hex()})
