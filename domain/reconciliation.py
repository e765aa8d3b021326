"""What a look at records and workflows side by side finds, and what is done about it."""

from typing import Literal

from pydantic import Field

from domain.build import Build
from domain.deployment import Deployment
from domain.wire import Timestamp, Wire

Closed = Literal["completed", "canceled", "failed", "terminated", "timed-out"]
Mend = Literal["restarted", "repaired", "ended", "freed", "granted", "stopped"]
"""A workflow was started anew; a record was finished; a workflow without a record was ended; a lane that a finished
deployment had was freed; a free lane was given to who waited; a build that nobody wants was stopped."""

MOST_FINDINGS = 100


class WorkflowState(Wire):
    """What Temporal says of a deployment's workflow: that it is open, closed, or that there is none."""

    is_open: bool = False
    closed: Closed | None = None
    reason: str | None = Field(default=None, description="why it was terminated, or its failure")
    failure_type: str | None = None


class Unfinished(Wire):
    """A record that is not final, with the provider's build as far as it is known."""

    deployment: Deployment
    build: Build | None


class Finding(Wire):
    id: str = Field(description="of the deployment")
    problem: str
    mend: Mend | None = Field(description="what was done about it; null: nothing yet")


class Round(Wire):
    """One look at everything."""

    at: Timestamp
    zombies: int = Field(default=0, description="records that run, without an open workflow")
    orphan_workflows: int = Field(default=0, description="open workflows without a record that runs")
    held_lanes: int = Field(default=0, description="lanes and places in line of deployments that have ended")
    idle_lanes: int = Field(default=0, description="lanes that are free while somebody waits for them")
    not_started: int = Field(default=0, description="accepted, and not with Temporal after 5 s")
    undelivered: int = Field(default=0, description="cancels, wake-ups and webhooks that wait for longer than 30 s")
    findings: list[Finding] = Field(default_factory=list, description=f"the first {MOST_FINDINGS}")

    @property
    def clean(self) -> bool:
        return not (self.zombies or self.orphan_workflows or self.held_lanes or self.idle_lanes)


class Reconciliation(Wire):
    """The last round, and what all rounds have mended."""

    last: Round
    rounds: int
    mended: dict[Mend, int]
    age_seconds: float = Field(description="since the last round")


class PartState(Wire):
    """`problem` is null where all is well."""

    name: str
    problem: str | None


class Checkup(Wire):
    """What each part says, and a round that was made for the purpose, where it could be made."""

    parts: list[PartState]
    round: Round | None
    mended: dict[Mend, int] = Field(description="by all rounds")

    @property
    def well(self) -> bool:
        return self.round is not None and self.round.clean and not any(part.problem for part in self.parts)
