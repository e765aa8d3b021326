"""A project's `providerSettings` for Netlify."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationError

from domain.errors import DeploymentError, ErrorCode
from domain.wire import Request

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")]


class Settings(Request):
    site_id: Id = Field(description="the site's id, or its domain")
    account_id: Id | None = Field(default=None, description="without it, variables are not handed over")
    mode: Literal["git", "files"]
    logs: bool = Field(default=True, description="read the build's log, for which Netlify promises no API")
    clear_cache: bool = Field(default=False, description="of mode git: build without what earlier builds kept")

    @classmethod
    def read(cls, settings: dict[str, Any]) -> Self:
        """
        Raises:
            DeploymentError: invalid-request, with the fields that are wrong.
        """
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            fields = [
                ("/".join(("/providerSettings", *map(str, wrong["loc"]))), _said(wrong["type"], wrong["msg"]))
                for wrong in error.errors(include_url=False, include_context=False, include_input=False)
            ]
            message = "the providerSettings of netlify are refused: " + "; ".join(": ".join(field) for field in fields)
            raise DeploymentError(ErrorCode.INVALID_REQUEST, message[:1000], fields=fields) from None


def _said(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "is not known; accepted are siteId, accountId, mode, logs, clearCache"
    return message
