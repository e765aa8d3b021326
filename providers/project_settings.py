"""How the `providerSettings` of a project are read, and what is said of those that are refused."""

from typing import Any, ClassVar, Self

from pydantic import ValidationError

from domain.errors import DeploymentError, ErrorCode
from domain.wire import Request


class ProjectSettings(Request):
    """`accepted` names the settings that there are."""

    provider: ClassVar[str]
    accepted: ClassVar[str]

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
                ("/".join(("/providerSettings", *map(str, wrong["loc"]))), cls._said(wrong["type"], wrong["msg"]))
                for wrong in error.errors(include_url=False, include_context=False, include_input=False)
            ]
            said = "; ".join(": ".join(field) for field in fields)
            message = f"the providerSettings of {cls.provider} are refused: {said}"
            raise DeploymentError(ErrorCode.INVALID_REQUEST, message[:1000], fields=fields) from None

    @classmethod
    def _said(cls, kind: str, message: str) -> str:
        if kind == "extra_forbidden":
            return f"is not known; accepted are {cls.accepted}"
        return message.removeprefix("Value error, ")
