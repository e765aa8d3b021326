"""Lines about how far the jobs of a run are: each step as it begins and as it ends, in the order of their numbers.

Rule: what is told follows from what GitHub says and from what was told before, so that who resumes tells the rest.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from domain.log import LogLevel, LogLine
from providers.github_pages.calls import Job, Step
from providers.github_pages.told import ToldJob
from providers.github_pages.words import ENDED, RUNNING
from providers.http import plain

NAME_LENGTH = 100
_BAD = frozenset({"failure", "timed_out"})


def in_order(jobs: list[Job]) -> list[Job]:
    """As they ended, then those that run."""
    return sorted(jobs, key=lambda job: (job.completed_at or datetime.max.replace(tzinfo=UTC), job.id))


def progress(job: Job, told: ToldJob) -> Iterator[LogLine]:
    """What is new of its steps and its end; `told` is brought up to date line by line."""
    at = job.started_at or job.completed_at or datetime.now(UTC)
    for step in sorted(job.steps, key=lambda step: step.number):
        if step.status not in {RUNNING, ENDED}:
            if job.status == ENDED:
                continue
            break
        if step.number > told.step:
            told.step, told.step_ended = step.number, False
            at = max(at, step.started_at or at)
            if step.conclusion != "skipped":
                yield _line(job, step, "started", at)
        if step.status == ENDED and step.number == told.step and not told.step_ended:
            told.step_ended = True
            at = max(at, step.completed_at or at)
            yield _line(job, step, _ended(step), at, bad=step.conclusion in _BAD)
    if job.status == ENDED and not told.ended:
        told.ended = True
        yield _line(job, None, _ended(job), max(at, job.completed_at or at), bad=job.conclusion in _BAD)


def current(jobs: list[Job]) -> str | None:
    """The step that runs: `job / step`."""
    for job in jobs:
        if job.status == RUNNING:
            names = [step.name for step in job.steps if step.status == RUNNING]
            return _named(job, *names[:1])
    return None


def failed_place(jobs: list[Job]) -> tuple[Job, str] | None:
    """The first job that failed, and its name with that of the step in which it did."""
    for job in in_order(jobs):
        if job.conclusion in _BAD:
            names = [step.name for step in job.steps if step.conclusion in _BAD]
            return job, _named(job, *names[:1])
    return None


def _line(job: Job, step: Step | None, what: str, at: datetime, *, bad: bool = False) -> LogLine:
    names = [step.name] if step else []
    return LogLine(
        timestamp=at,
        message=f"{plain(step.name if step else job.name, NAME_LENGTH)}: {what}",
        step=_named(job, *names),
        level=LogLevel.ERROR if bad else None,
    )


def _ended(what: Job | Step) -> str:
    word = plain(what.conclusion or "ended", NAME_LENGTH)
    if what.started_at is None or what.completed_at is None or what.conclusion == "skipped":
        return word
    return f"{word} after {max(0, (what.completed_at - what.started_at).total_seconds()):.0f} s"


def _named(job: Job, *names: str) -> str:
    return " / ".join(plain(name, NAME_LENGTH) for name in (job.name, *names))
