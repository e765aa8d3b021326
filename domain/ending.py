"""How a deployment ends: what the workflow decides and the store writes down in one transaction."""

from pydantic import Field

from domain.result import BuildReport, Failure
from domain.states import Status
from domain.wire import Wire


class Ending(Wire):
    """A final status with all that belongs to it."""

    status: Status
    failure: Failure | None = None
    report: BuildReport = Field(default_factory=BuildReport)
