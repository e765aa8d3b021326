"""What Prometheus reads. Labels are route templates and codes, never ids, so that their number is bounded."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from domain.reconciliation import Reconciliation
from domain.states import ACTIVE

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Reconciled:
    """The last round of the reconciler and what all have mended, of any worker: they are in the database."""

    def __init__(self) -> None:
        self.found: Reconciliation | None = None

    def collect(self) -> Iterator[Metric]:
        if (found := self.found) is None:
            return
        for name, what, value in (
            ("zombies", "Records that run without an open workflow", found.last.zombies),
            ("orphan_workflows", "Open workflows without a record that runs", found.last.orphan_workflows),
            ("held_lanes_of_finished", "Lanes held by deployments that have ended", found.last.held_lanes),
            ("idle_lanes", "Free lanes that somebody waits for", found.last.idle_lanes),
            ("not_started", "Accepted, and not with Temporal after 5 s", found.last.not_started),
            ("undelivered", "Cancels, wake-ups, webhooks that wait for longer than 30 s", found.last.undelivered),
            ("reconciliation_age_seconds", "Since the last round", found.age_seconds),
        ):
            yield GaugeMetricFamily(f"headway_{name}", what, value)
        mended = CounterMetricFamily("headway_mended", "What the reconciler has set right", labels=["what"])
        for done, count in sorted(found.mended.items()):
            mended.add_metric([done], count)
        yield mended


class Metrics:
    """One registry per app: two apps in one process do not share their counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "headway_http_requests", "Answers", ["method", "route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "headway_http_request_seconds",
            "Time to the answer's first byte",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.triggers = Counter(
            "headway_triggers", "Accepted triggers and retries", ["replayed"], registry=self._registry
        )
        self._streams = Gauge("headway_open_streams", "Streams being read now", ["kind"], registry=self._registry)
        self._deployments = Gauge(
            "headway_active_deployments", "Deployments that have not ended", ["status"], registry=self._registry
        )

        self._reconciled = Reconciled()
        self._registry.register(self._reconciled)

    @contextmanager
    def open_stream(self, kind: str) -> Iterator[None]:
        with self._streams.labels(kind).track_inprogress():
            yield

    def page(self, active: dict[str, int] | None, reconciled: Reconciliation | None) -> bytes:
        """Both are None where the database cannot be asked: no figure is better than a wrong one."""
        self._reconciled.found = reconciled
        self._deployments.clear()
        if active is not None:
            for status in sorted(ACTIVE):
                self._deployments.labels(status).set(active.get(status, 0))
        return generate_latest(self._registry)
