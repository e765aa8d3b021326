"""The description of a provider's API, as it stands in a project's `providerSettings`. `checks` says what must hold.

docs/custom-provider.md says each field in words.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from domain.configuration import VariableName
from domain.log import LogLevel
from domain.wire import Request
from providers.base import BuildStage, Capability
from providers.custom.pointers import check_pointer
from providers.http import askable

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


def _is_base(url: str) -> str:
    if askable(url) is None or "?" in url or "#" in url:
        raise ValueError("is no address: accepted is http(s)://host/path, without credentials, query and fragment")
    return url


BaseUrl = Annotated[str, AfterValidator(_is_base)]
Pointer = Annotated[str, StringConstraints(max_length=500), AfterValidator(check_pointer)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]
HeaderText = Annotated[str, StringConstraints(pattern=r"^[ -~]{1,200}$")]
Template = Annotated[str, StringConstraints(max_length=4000)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=100)]
ParameterName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class _Part(Request):
    model_config = ConfigDict(strict=True)


class Auth(_Part):
    """`secret` names one of the project's secrets; `user` is for basic, `header` and `prefix` for header."""

    type: Literal["bearer", "header", "basic"]
    secret: VariableName
    header: HeaderName | None = None
    prefix: HeaderText | None = None
    user: HeaderText | None = None


class Asked(_Part):
    """A request. `url` is a path below `baseUrl`, or a whole address."""

    method: Method = "GET"
    url: Template
    headers: dict[HeaderName, Template] = Field(default_factory=dict, max_length=30)
    query: dict[ParameterName, Template] = Field(default_factory=dict, max_length=30)
    body: Any = None


class CreateAnswer(_Part):
    id: Pointer | None = Field(default=None, description="without it, a build there has the id of our deployment")


class Create(Asked):
    method: Method = "POST"
    answer: CreateAnswer = CreateAnswer()


class FindAnswer(_Part):
    items: Pointer | None = Field(default=None, description="a list of builds; without it, the answer is the build")
    match: Pointer | None = Field(default=None, description="our deployment id in a build")
    id: Pointer | None = None


class Find(Asked):
    answer: FindAnswer = FindAnswer()


class StatusAnswer(_Part):
    status: Pointer
    reason: Pointer | None = None
    step: Pointer | None = None
    url: Pointer | None = None
    preview_urls: Pointer | None = None
    commit: Pointer | None = None
    live: Pointer | None = Field(default=None, description="true once it is reached under its address")


class Status(Asked):
    answer: StatusAnswer


class Act(Asked):
    method: Method = "POST"
    also_done: list[Annotated[int, Field(ge=400, le=499)]] = Field(
        default_factory=list, max_length=20, description="refusals that say: it was so before"
    )


class Requests(_Part):
    create: Create
    status: Status
    find: Find | None = None
    logs: Asked | None = None
    cancel: Act | None = None
    publish: Act | None = None
    repoint: Act | None = None

    def described(self) -> dict[str, Asked]:
        """Those that are there."""
        return {name: asked for name in type(self).model_fields if (asked := getattr(self, name)) is not None}


class Line(_Part):
    """Where a line's parts stand in an entry of the log; '' is the entry itself."""

    message: Pointer
    id: Pointer | None = None
    timestamp: Pointer | None = None
    level: Pointer | None = None
    step: Pointer | None = None


_LEVELS = {
    "trace": LogLevel.DEBUG,
    "debug": LogLevel.DEBUG,
    "info": LogLevel.INFO,
    "notice": LogLevel.INFO,
    "warn": LogLevel.WARN,
    "warning": LogLevel.WARN,
    "error": LogLevel.ERROR,
    "critical": LogLevel.ERROR,
    "fatal": LogLevel.ERROR,
}


class Logs(_Part):
    """How lines are read: `page` by page, from the `status` answer, as `text` from an offset on, or not at all."""

    kind: Literal["none", "page", "status", "text"] = "none"
    lines: Pointer | None = None
    next: Pointer | None = Field(default=None, description="the cursor after a page; without it, the last line's id")
    line: Line | None = None
    levels: dict[Word, Literal["debug", "info", "warn", "error"]] | None = Field(default=None, max_length=100)

    def level(self, word: str | None) -> LogLevel | None:
        """What is not known is recognised by what a line says."""
        if word is None:
            return None
        if self.levels is not None:
            return LogLevel(self.levels[word]) if word in self.levels else None
        return _LEVELS.get(word.lower())


class Poll(_Part):
    """Seconds between two looks at a build: the shortest while there is news, longer and longer while there is none."""

    shortest_seconds: float = Field(default=2, ge=0.1, le=300)
    longest_seconds: float = Field(default=15, ge=0.1, le=300)


class Webhooks(_Part):
    """`header` and `prefix` are for hmac-sha256."""

    scheme: Literal["standard-webhooks", "hmac-sha256"]
    header: HeaderName | None = None
    prefix: HeaderText | None = None


class Settings(_Part):
    base_url: BaseUrl
    auth: Auth | None = None
    requests: Requests
    words: dict[Word, BuildStage] = Field(max_length=100)
    logs: Logs = Logs()
    poll: Poll = Poll()
    idempotent_create: bool = Field(default=False, description="a repeated create makes no second build")
    timeout_seconds: float = Field(default=30, ge=0.1, le=120)
    webhooks: Webhooks | None = None

    @property
    def capabilities(self) -> frozenset[Capability]:
        has = {
            Capability.CANCEL: self.requests.cancel is not None,
            Capability.LIVE_LOGS: self.logs.kind != "none",
            Capability.REPOINT: self.requests.repoint is not None,
        }
        return frozenset(capability for capability, there in has.items() if there)
