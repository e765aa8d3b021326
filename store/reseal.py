"""Where the ring's keys are in use, and the way out of an old one: what it sealed is sealed anew, while all goes on.

Rules: rows are taken under their lock, and those that somebody else has are left for the next time: this waits for
nobody, nobody waits long for this, and no change is lost. A batch is one transaction with its audit entry: who dies in
the middle has done the batches before. What cannot be opened is left as it is, and counted.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from psycopg.types.json import Jsonb

from domain.audit import SYSTEM
from domain.secret import SecretKey, SecretKeys, document, read_counts
from store import audit, data_keys
from store.database import Connection, Database, Row, execute
from store.seal import CannotOpen, Sealer

_AT_A_TIME = 200
_KEPT = "24 hours"
"""Longer than answers to repeated requests count: they are removed instead of sealed anew."""


@dataclass(frozen=True)
class _Place:
    """Where sealed values are. `project`: the column that names whose data key is to seal them; None: the ring does.
    `counted`: versions of secrets stand beside them."""

    table: str
    column: str
    key: tuple[str, ...]
    purpose: str
    project: str | None = None
    counted: bool = False

    @property
    def sealed_by(self) -> str:
        """The id of the key, as SQL. Empty: a data key."""
        return f"substring({self.column} from 2 for get_byte({self.column}, 0))"

    @property
    def misplaced(self) -> str:
        """What is to be sealed anew, as SQL; null is not."""
        return f"get_byte({self.column}, 0) > 0" if self.project else f"{self.sealed_by} <> %(sealing)s"

    @property
    def ready(self) -> str:
        """Whether there is what is to seal it, as SQL."""
        there = f"exists (select from data_keys where data_keys.project_id = {self.table}.{self.project})"
        return there if self.project else "true"


PLACES = (
    _Place("data_keys", "sealed", ("project_id",), "data key {project_id}"),
    _Place("projects", "secrets", ("id",), "project {id}", project="id", counted=True),
    _Place("environments", "secrets", ("id",), "environment {id}", project="project_id", counted=True),
    _Place("deployments", "secrets", ("id",), "deployment {id}", project="project_id"),
    _Place("idempotency", "answer", ("scope", "route", "key"), "answer {scope} {route} {key}"),
    _Place("log_streams", "memory", ("deployment_id", "stream"), "log {deployment_id} {stream}"),
)


class SecretKeyStore:
    def __init__(self, database: Database, ring: Sealer) -> None:
        self._database = database
        self._ring = ring

    async def count_sealed_by(self) -> dict[str, int]:
        """How many values each key of the ring has sealed, by its id: those of the ring, and others that are found."""
        found: Counter[str] = Counter(dict.fromkeys(self._ring.ids, 0))
        for place in PLACES:
            rows = await self._database.fetch_all(
                f"select {place.sealed_by} as id, count(*) as number from {place.table}"
                f" where get_byte({place.column}, 0) > 0 group by 1"
            )
            found.update({bytes(row["id"]).decode(errors="replace"): row["number"] for row in rows})
        return dict(found)

    async def list_keys(self) -> SecretKeys:
        """The keys, and how many values are still to be sealed anew."""
        counts = await self.count_sealed_by()
        left = [await self._left(place) for place in PLACES]
        keys = [
            SecretKey(id=name, seals=name == self._ring.key_id, known=name in self._ring.ids, values=number)
            for name, number in sorted(counts.items())
        ]
        return SecretKeys(keys=keys, left=sum(left))

    async def reseal(self) -> int:
        """All that is not sealed as it is to be, once; says how many values it took."""
        await self._forget_answers()
        await self._make_data_keys()
        return sum([await self._reseal(place) for place in PLACES])

    async def _left(self, place: _Place) -> int:
        statement = f"select count(*) as number from {place.table} where {place.misplaced}"
        row = await self._database.fetch_one(statement, self._parameters())
        return int(row["number"]) if row else 0

    async def _forget_answers(self) -> None:
        await self._database.fetch_all(
            "delete from idempotency where (scope, route, key) in (select scope, route, key from idempotency"
            f" where created_at < now() - interval '{_KEPT}' for update skip locked) returning key"
        )

    async def _make_data_keys(self) -> None:
        """For projects that were there before: here, where no lock is held."""
        statement = "select id from projects where not exists (select from data_keys where project_id = projects.id)"
        for row in await self._database.fetch_all(statement):
            async with self._database.transaction() as connection:
                await data_keys.sealing(connection, self._ring, row["id"])

    async def _reseal(self, place: _Place) -> int:
        done, after = 0, None
        while True:
            async with self._database.transaction() as connection:
                rows = await self._take(connection, place, after)
                sealed = [one for row in rows if (one := await self._sealed_anew(connection, place, row)) is not None]
                if sealed:
                    await _write(connection, place, sealed)
                    done += len(sealed)
                    told: dict[str, Any] = {"values": len(sealed), "key": self._ring.key_id}
                    await audit.record(connection, SYSTEM, "secrets.reseal", None, place.table, **told)
            if not rows:
                return done
            after = {name: rows[-1][name] for name in place.key}

    async def _take(self, connection: Connection, place: _Place, after: Mapping[str, Any] | None) -> list[Row]:
        """The next ones, by their key, locked."""
        names = ", ".join(place.key)
        beyond = f" and ({names}) > ({', '.join(f'%({name})s' for name in place.key)})" if after else ""
        cursor = await execute(
            connection,
            f"select * from {place.table} where {place.misplaced} and {place.ready}{beyond}"
            f" order by {names} limit {_AT_A_TIME} for no key update skip locked",
            self._parameters() | dict(after or {}),
        )
        return await cursor.fetchall()

    async def _sealed_anew(self, connection: Connection, place: _Place, row: Row) -> Row | None:
        """The row as it is to be; None where that cannot be now."""
        purpose = place.purpose.format_map(row)
        project = place.project and row[place.project]
        try:
            sealer = await data_keys.opening(connection, self._ring, project) if project else self._ring
            text = self._ring.open(bytes(row[place.column]), purpose)
        except CannotOpen:
            return None
        versions = read_counts(row["secret_versions"], orjson.loads(text)) if place.counted else {}
        return {**row, place.column: sealer.seal(text, purpose), "secret_versions": Jsonb(document(versions))}

    def _parameters(self) -> dict[str, Any]:
        return {"sealing": self._ring.key_id.encode()}


async def _write(connection: Connection, place: _Place, rows: list[Row]) -> None:
    columns = (place.column, "secret_versions") if place.counted else (place.column,)
    changed = ", ".join(f"{name} = %({name})s" for name in columns)
    chosen = " and ".join(f"{name} = %({name})s" for name in place.key)
    async with connection.cursor() as cursor:
        await cursor.executemany(
            f"update {place.table} set {changed} where {chosen}".encode(),
            [{name: row[name] for name in (*columns, *place.key)} for row in rows],
        )
