"""What the address of a deployment has to answer once it is published, else the deployment has failed."""

from typing import Annotated

from pydantic import Field, StringConstraints

from domain.wire import Request, Wire

OneStatus = Annotated[int, Field(ge=100, le=599)]
StatusRange = Annotated[str, StringConstraints(pattern=r"^[1-5][0-9]{2}-[1-5][0-9]{2}$")]
Statuses = OneStatus | StatusRange | Annotated[list[OneStatus | StatusRange], Field(min_length=1, max_length=20)]
# What is asked for is appended to an address: printable ASCII, without a fragment, cannot lead to another host.
Path = Annotated[str, StringConstraints(max_length=1024, pattern=r'^/[!"$-\[\]-~]*$')]
Contained = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]

WELL = "200-399"
DEFAULT_SECONDS = 30


class HealthCheck(Wire):
    """As it is stored with a deployment."""

    path: str = Field(default="/", description="below the address of the deployment; a redirect is not followed")
    status: int | str | list[int | str] = Field(default=WELL, description="one, a range like 200-299, or a list")
    timeout_seconds: int = Field(default=DEFAULT_SECONDS, description="it is asked again until then")
    contains: str | None = Field(default=None, description="what has to be in the body, within its first MiB")

    def accepts(self, status: int) -> bool:
        return any(low <= status <= high for low, high in map(_bounds, self._wanted()))

    @property
    def said(self) -> str:
        """What is wanted, in words."""
        body = f" and a body with {self.contains!r}" if self.contains else ""
        return f"status {' or '.join(map(str, self._wanted()))}{body}"

    def _wanted(self) -> list[int | str]:
        return self.status if isinstance(self.status, list) else [self.status]


class HealthCheckChange(Request):
    """A part of it, as a caller sends it."""

    path: Path | None = None
    status: Statuses | None = None
    timeout_seconds: int | None = Field(default=None, ge=1, le=60)
    contains: Contained | None = None


def _bounds(wanted: int | str) -> tuple[int, int]:
    low, _, high = str(wanted).partition("-")
    return int(low), int(high or low)
