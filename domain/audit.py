"""The audit: who changed what, each entry chained to the one before it by a hash.

The hash of an entry is the SHA-256 of the entry as canonical JSON (members sorted, no spaces, UTF-8) with all of its
members but `at` and `hash`. The first of a chain follows the empty hash.
"""

import hashlib
from typing import Any

import orjson
from pydantic import Field

from domain.wire import Request, Timestamp, Wire

SYSTEM = "headway"
"""Who is named for what nobody asked for."""

NO_PROJECT = "-"
"""How an anchor names the chain of what belongs to no project; no project's id begins like that."""


class AuditEntry(Wire):
    id: str
    project_id: str | None = Field(description="its chain; null: of what belongs to no project, such as tokens")
    sequence: int = Field(description="counts within the chain from 1, without gaps")
    at: Timestamp
    at_micros: int = Field(description="the same moment in microseconds since 1970, as it is hashed")
    actor: str
    token_id: str | None = Field(description="the token that was used; null where there was none")
    request_id: str | None = Field(description="the request's trace id")
    action: str
    target: str = Field(description="the id of what was changed; what it is, the action's first word says")
    reason: str | None
    before: str | None = Field(description="digest of the target before the change; null where there was none")
    after: str | None = Field(description="digest of the target after the change; null where there is none")
    details: dict[str, Any]
    previous_hash: str
    hash: str


class _Wanted(Request):
    actor: str | None = None
    action: str | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None


class AuditQuery(_Wanted):
    """Entries that a caller asks for."""

    project_id: str | None = None


class AuditFilter(_Wanted):
    """Entries that he is shown. `projects` are those that he reaches; None: all, and what belongs to none."""

    projects: list[str] | None = None


class AuditAnchor(Wire):
    """The head of a chain at some time, as somebody has kept it elsewhere."""

    project_id: str | None
    sequence: int
    hash: str

    @classmethod
    def read(cls, text: str) -> "AuditAnchor":
        chain, sequence, told = text.split(":")
        return cls(project_id=None if chain == NO_PROJECT else chain, sequence=int(sequence), hash=told)

    def __str__(self) -> str:
        return f"{name_of(self.project_id)}:{self.sequence}:{self.hash}"


class AuditChain(Wire):
    """A chain as it is now. `anchor` is what is kept elsewhere and sent back later."""

    project_id: str | None
    entries: int
    anchor: str = Field(description="CHAIN:SEQUENCE:HASH of its last entry")


class AuditFault(Wire):
    where: str = Field(description="CHAIN:SEQUENCE")
    what: str


class AuditReport(Wire):
    valid: bool
    entries: int
    chains: list[AuditChain]
    faults: list[AuditFault] = Field(description="the first hundred")


def name_of(project_id: str | None) -> str:
    return NO_PROJECT if project_id is None else project_id


def canonical(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS, default=_hex)


def digest(document: Any) -> str:
    return "sha256:" + hashlib.sha256(canonical(document)).hexdigest()


def entry_hash(document: dict[str, Any]) -> bytes:
    return hashlib.sha256(canonical(document)).digest()


def _hex(value: object) -> str:
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    raise TypeError(f"no JSON for {type(value).__name__}")
