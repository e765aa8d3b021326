"""What a provider's words mean for a build at this moment."""

from dataclasses import dataclass

from domain.result import Failure
from providers.base import FINAL_STAGES, BuildStage


@dataclass(frozen=True)
class Verdict:
    stage: BuildStage = "initializing"
    step: str | None = None
    waiting: str | None = None
    failure: Failure | None = None

    @property
    def final(self) -> bool:
        return self.stage in FINAL_STAGES
