"""Records as the reconciler sees them: which ones should have a workflow, and lanes that are not as they should be.

Rule: each mend reads again under the lock what it is about to change; two reconcilers at once mend once.
"""

from datetime import datetime

from psycopg.types.json import Jsonb

from domain.audit import SYSTEM
from domain.deployment import Deployment
from domain.errors import DeploymentError, ErrorCode
from domain.reconciliation import Finding, Mend, Reconciliation, Round, Unfinished
from domain.states import ACTIVE, TERMINAL
from store import audit, lanes
from store.database import Connection, Database, execute
from store.projects import as_uuid
from store.rows import build_of, change, deployment_of, deployment_row

_ACTIVE = f"status in ({', '.join(repr(str(status)) for status in sorted(ACTIVE))})"
_HELD = "lane in ('held', 'waiting', 'gated')"
_LATE = "now() - interval '30 seconds'"


class ReconciliationStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def with_workflow(self) -> list[str]:
        """Ids of deployments that have not ended and whose workflow was started."""
        rows = await self._database.fetch_all(
            f"select id from deployments where {_ACTIVE} and (workflow_started_at is not null or status <> 'created')"
        )
        return [str(row["id"]) for row in rows]

    async def endings(self, deployment_ids: list[str]) -> dict[str, datetime | None]:
        """When those of them that are known have ended."""
        wanted = {identity: deployment_id for deployment_id in deployment_ids if (identity := as_uuid(deployment_id))}
        rows = await self._database.fetch_all(
            "select id, finished_at from deployments where id = any(%(ids)s)", {"ids": list(wanted)}
        )
        return {wanted[row["id"]]: row["finished_at"] for row in rows}

    async def unwanted(self, deployment_ids: list[str]) -> list[str]:
        """Those that have ended, or of which there is no record."""
        endings = await self.endings(deployment_ids) if deployment_ids else {}
        return [one for one in deployment_ids if one not in endings or endings[one] is not None]

    async def unfinished(self, deployment_id: str) -> Unfinished | None:
        """The record, unless it is final or there is none."""
        async with self._database.transaction() as connection:
            try:
                row = await deployment_row(connection, deployment_id)
            except DeploymentError as error:
                if error.code is ErrorCode.NOT_FOUND:
                    return None
                raise
        if row["status"] in TERMINAL:
            return None
        return Unfinished(deployment=deployment_of(row, None), build=build_of(row))

    async def begin_anew(self, deployment_id: str) -> Deployment | None:
        """For a deployment whose workflow was lost; a cancel that was delivered to that one is delivered again."""
        async with self._database.transaction() as connection:
            row = await deployment_row(connection, deployment_id, lock=True)
            if row["status"] in TERMINAL:
                return None
            begun = await change(connection, row, cancel_delivered_at=None)
            await audit.deployment(connection, SYSTEM, "restart", row, begun, lost="workflow")
            return deployment_of(begun, None)

    async def free_lanes(self) -> list[Finding]:
        """What deployments that have ended still hold goes to the next in line."""
        rows = await self._database.fetch_all(f"select id from deployments where {_HELD} and not {_ACTIVE}")
        freed = [await self._free(str(row["id"])) for row in rows]
        return [finding for finding in freed if finding is not None]

    async def _free(self, deployment_id: str) -> Finding | None:
        async with self._database.transaction() as connection:
            await lanes.lock(connection, deployment_id)
            row = await deployment_row(connection, deployment_id, lock=True)
            if row["status"] not in TERMINAL or row["lane"] == "released":
                return None
            left = await lanes.leave(connection, row, deployed=False)
            await audit.deployment(connection, SYSTEM, "free", row, left, lane=row["lane"])
        return Finding(id=deployment_id, problem=f"is {row['status']} and its lane was {row['lane']}", mend="freed")

    async def grant_lanes(self) -> list[Finding]:
        """Lanes that nobody has go to the first in line."""
        rows = await self._database.fetch_all(
            "select distinct on (environment_id) id from deployments as first where lane = 'waiting' and"
            f" {_ACTIVE} and not exists (select 1 from deployments as other where other.lane = 'held'"
            " and other.environment_id = first.environment_id) order by environment_id, sequence"
        )
        granted = [await self._grant(str(row["id"])) for row in rows]
        return [finding for finding in granted if finding is not None]

    async def _grant(self, deployment_id: str) -> Finding | None:
        async with self._database.transaction() as connection:
            await lanes.lock(connection, deployment_id)
            before = await deployment_row(connection, deployment_id)
            await lanes.active(connection, before["environment_id"], lock=True)
            row = await lanes.grant(connection, before["environment_id"])
            if row is None:
                return None
            await audit.deployment(connection, SYSTEM, "grant", None, row)
        return Finding(id=str(row["id"]), problem="waited for a lane that was free", mend="granted")

    async def late(self) -> tuple[int, int]:
        """How many were not started after 5 s; how much else was not delivered after 30 s."""
        row = await self._database.fetch_one(
            "select (select count(*) from deployments where status = 'created' and workflow_started_at is null"
            " and created_at < now() - interval '5 seconds') as not_started,"
            " (select count(*) from deployments where cancel_requested_at is not null and cancel_delivered_at is null"
            f" and cancel_requested_at < {_LATE} and {_ACTIVE})"
            " + (select count(*) from deployments where wake_asked_at is not null and wake_delivered_at is null"
            f" and wake_asked_at < {_LATE} and workflow_started_at is not null)"
            " + (select count(*) from webhooks where state = 'pending' and deployment_id is not null"
            f" and received_at < {_LATE}) as undelivered"
        )
        return (row["not_started"], row["undelivered"]) if row else (0, 0)

    async def note(self, done: Round) -> None:
        """Writes the round down."""
        mends = [finding.mend for finding in done.findings if finding.mend is not None]
        async with self._database.transaction() as connection:
            await execute(
                connection,
                "update reconciliation set rounds = rounds + 1, at = %(at)s, last = %(last)s",
                {"at": done.at, "last": Jsonb(done.model_dump(mode="json", by_alias=True))},
            )
            await _count(connection, mends)

    async def note_stopped(self, builds: int) -> None:
        """Builds that a builder has stopped since nobody wants them."""
        async with self._database.transaction() as connection:
            await _count(connection, ["stopped"] * builds)

    async def last(self) -> Reconciliation | None:
        """None before the first round."""
        row = await self._database.fetch_one(
            "select rounds, last, extract(epoch from now() - at)::float8 as age_seconds,"
            " (select coalesce(jsonb_object_agg(what, count), '{}') from mends) as mended"
            " from reconciliation where at is not null"
        )
        return Reconciliation.model_validate(row) if row else None


async def _count(connection: Connection, mends: list[Mend]) -> None:
    for what in sorted(set(mends)):
        await execute(
            connection,
            "insert into mends (what, count) values (%(what)s, %(count)s)"
            " on conflict (what) do update set count = mends.count + excluded.count",
            {"what": what, "count": mends.count(what)},
        )
