"""What a follower has told of a build: the cursor between its looks."""

from typing import Self

from pydantic import BaseModel, ValidationError


class ToldSoFar(BaseModel):
    @classmethod
    def read(cls, cursor: str) -> Self:
        """A cursor that is not ours tells that nothing was told."""
        try:
            return cls.model_validate_json(cursor or "{}")
        except ValidationError:
            return cls()
