"""What is known of a deployment's descent from a commit that was rolled back; a step finds it out, the row keeps it."""

from pydantic import Field

from domain.wire import Wire


class Descent(Wire):
    held: str
    commit: str | None = Field(description="of which it is known; of another one it says nothing")
    descends: bool | None = Field(default=None, description="None: it could not be found out")
    why: str = Field(default="", description="why it could not")
