"""What Prometheus reads. Labels are route templates and codes, never ids, so that their number is bounded."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from domain.states import ACTIVE

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


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

    @contextmanager
    def open_stream(self, kind: str) -> Iterator[None]:
        with self._streams.labels(kind).track_inprogress():
            yield

    def page(self, active: dict[str, int] | None) -> bytes:
        """`active` is None where the database cannot be asked: no figure is better than a wrong one."""
        self._deployments.clear()
        if active is not None:
            for status in sorted(ACTIVE):
                self._deployments.labels(status).set(active.get(status, 0))
        return generate_latest(self._registry)
