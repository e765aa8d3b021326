"""What an environment demands before something is deployed to it: approvals, refs, calm times, proven commits.

Cron expressions are those of cronsim: five fields, evaluated in the window's own time zone.
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, StringConstraints, WithJsonSchema, field_validator

from domain.wire import Request, Timestamp, Wire

APPROVAL_TIMEOUT_SECONDS = 30 * 86400
_LONGEST_FREEZE = 31 * 86400

Subject = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
RefPattern = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x20]+$")]


_CRON = WithJsonSchema(
    {
        "type": "string",
        "pattern": r"^(\*|[0-9]|[1-5][0-9]) (\*|[0-9]|1[0-9]) (\*|[1-9]|1[0-9]) (\*|[1-9]|1[0-2]) (\*|[0-6])$",
        "description": "cron: minute, hour, day of month, month, day of week; lists, ranges and steps as well",
    }
)
_ZONE = WithJsonSchema(
    {
        "type": "string",
        "pattern": "^(UTC|(Europe/(Berlin|London|Paris)|America/(New_York|Los_Angeles)|Asia/(Kolkata|Tokyo)))$",
        "description": "a name of the IANA time zone database; these are some",
        "default": "UTC",
    }
)


class FreezeWindow(Request):
    """From each moment that `start` names, for `duration` seconds, nothing new is deployed."""

    start: Annotated[str, Field(max_length=100), _CRON]
    duration: int = Field(ge=60, le=_LONGEST_FREEZE, description="seconds")
    timezone: Annotated[str, Field(max_length=64), _ZONE] = "UTC"
    reason: str = Field(default="", max_length=500, pattern=r"^[^\x00-\x1f]*$")

    @field_validator("start")
    @classmethod
    def _cron(cls, text: str) -> str:
        try:
            CronSim(text, datetime.now(UTC))
        except CronSimError as error:
            raise ValueError(f"is no cron expression ({error}); accepted: five fields, such as '0 18 * * 5'") from None
        return text

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is no time zone; accepted: an IANA name such as Europe/Berlin") from None
        return name

    def ends(self, now: datetime) -> datetime | None:
        """When the window that `now` lies in is over; None outside of all."""
        local = now.astimezone(ZoneInfo(self.timezone))
        # A moment later, so that a window that begins right now counts.
        began = next(CronSim(self.start, local + timedelta(seconds=1), reverse=True), None)
        end = began and began + timedelta(seconds=self.duration)
        return end.astimezone(UTC) if end is not None and end > now else None


class Protection(Request):
    required_approvals: int = Field(default=0, ge=0, le=100, description="so many distinct people")
    approvers: list[Subject] = Field(
        default_factory=list, max_length=200, description="empty: whoever has the scope `approve`"
    )
    allow_self_approval: bool = Field(default=False, description="whether who triggered may approve")
    allowed_refs: list[RefPattern] = Field(
        default_factory=list, max_length=200, description="such as main or release/*; empty: all"
    )
    freeze_windows: list[FreezeWindow] = Field(default_factory=list, max_length=50)
    minimum_soak: int = Field(
        default=0, ge=0, le=30 * 86400, description="seconds that the commit has to have run in another environment"
    )
    approval_timeout: int = Field(default=APPROVAL_TIMEOUT_SECONDS, ge=60, le=365 * 86400, description="seconds")

    def admits(self, ref: str) -> bool:
        return not self.allowed_refs or any(fnmatchcase(ref, pattern) for pattern in self.allowed_refs)

    def frozen(self, now: datetime) -> tuple[datetime, str] | None:
        """Until when, and why; None when nothing is frozen."""
        ends = [(end, window.reason) for window in self.freeze_windows if (end := window.ends(now)) is not None]
        return max(ends, default=None, key=lambda end: end[0])


class Approval(Wire):
    """One person's word. `digest` is what it was about: what changes since is not approved."""

    subject: str
    decision: Literal["approve", "reject"]
    comment: str | None = None
    at: Timestamp
    digest: str


class DecisionRequest(Request):
    comment: str | None = Field(default=None, max_length=4096, pattern=r"^[^\x00]*$")


def subject_matter(ref: str, commit: str | None, configuration_digest: str, target: dict[str, object]) -> str:
    """What an approval is bound to: ref, commit, configuration and where it goes."""
    facts = {"ref": ref, "commit": commit, "configuration": configuration_digest, "target": target}
    return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
