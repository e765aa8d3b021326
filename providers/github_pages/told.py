"""What has been told of a build: the cursor of its news."""

import time

from pydantic import BaseModel, Field

from providers.told import ToldSoFar

GIVEN_UP = -1
WHOLE = -1


class ToldJob(BaseModel):
    """`step`: the last one whose beginning was told; `lines` of its log, WHOLE once nothing of the job is to come."""

    step: int = 0
    step_ended: bool = False
    ended: bool = False
    lines: int = 0


class Told(ToldSoFar):
    attempt: int = 0
    """The newest one whose beginning was told, and the newest whose end was."""
    ended: int = 0
    page: bool = False
    jobs: dict[str, ToldJob] = Field(default_factory=dict)
    missing: dict[str, float] = Field(default_factory=dict)
    record: int = 0
    """The GitHub Deployment that is written beside; GIVEN_UP where it could not be."""
    record_tries: int = 0

    def cursor(self) -> str:
        jobs = {name: job for name, job in self.jobs.items() if job != ToldJob()}
        return self.model_copy(update={"jobs": jobs}).model_dump_json(exclude_defaults=True)

    def job(self, job_id: int) -> ToldJob:
        return self.jobs.setdefault(str(job_id), ToldJob())

    def finish(self, job_id: int) -> None:
        self.jobs[str(job_id)] = ToldJob(lines=WHOLE)

    def waited_too_long(self, thing: str, seconds: float) -> bool:
        """Whether it has been missing for that long; also across workers, since it is in the cursor."""
        since = self.missing.setdefault(thing, time.time())
        return time.time() >= since + seconds

    def found(self, thing: str) -> None:
        self.missing.pop(thing, None)
