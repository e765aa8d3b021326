"""What a deployment that waits for its environment sees when it looks: go, wait on, or it is over."""

from datetime import timedelta

from pydantic import Field

from domain.ending import Ending
from domain.wire import Wire

LINE_TIMEOUT = timedelta(hours=24)
"""The longest that a deployment stands in line for its lane. Approvals have a limit of their own."""


class Look(Wire):
    may_go: bool = False
    pin: bool = Field(default=False, description="its commit is not known yet: what is approved is to be fixed")
    ask: str | None = Field(
        default=None, description="a commit that is held here: whether it is in its history is to be found out"
    )
    ending: Ending | None = Field(default=None, description="it will never go: how it ends")
    look_again_seconds: float | None = Field(default=None, description="when a rule's time comes; None: when told")
