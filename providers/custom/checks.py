"""What must hold in a description beyond the shape of each field. Every refusal names its field.

Rule: what a project could get wrong is refused when it is saved, not when it is deployed.
"""

from collections.abc import Iterator
from typing import Any, NoReturn

from pydantic import ValidationError

from domain.errors import DeploymentError, ErrorCode
from providers.custom.pointers import pointer_of
from providers.custom.settings import Asked, Settings
from providers.custom.templates import is_whole, leaves, placeholders
from providers.http import askable

NAMES = frozenset({"deploymentId", "projectId", "environment", "sourceRef", "commitSha", "repositoryUrl"})
CONFIGURATION = frozenset(
    {
        "buildCommand",
        "framework",
        "installCommand",
        "nodeVersion",
        "outputDirectory",
        "rootDirectory",
        "skipDeploy",
        "timeoutSeconds",
    }
)
WHOLE = frozenset({"configuration", "variables", "secrets"})
"""Maps: they stand alone, in a body."""
OF_ONE = ("variables.", "secrets.")
"""Begin the placeholder of one variable, of one secret."""

BEFORE_A_BUILD = frozenset({"create", "find"})
METHODS = {
    "create": ("POST", "PUT", "PATCH"),
    "find": ("GET", "POST"),
    "status": ("GET", "POST"),
    "logs": ("GET", "POST"),
}
"""Of the others all but GET: whatever looks ahead at addresses must not cancel anything."""
OTHERS = ("POST", "PUT", "PATCH", "DELETE")
BODIES = ("POST", "PUT", "PATCH")

KEPT = {
    "authorization": "auth names the secret that is sent there",
    "idempotency-key": "it is always sent with create",
    **dict.fromkeys(("connection", "content-length", "host", "transfer-encoding"), "it belongs to the connection"),
}
PLACES = {"page": "cursor", "text": "offset"}
"""What a request for the log has to hold, by how it is read."""
MOST_TOLD = 20

Path = tuple[str, ...]
Wrong = tuple[Path, str]


def read_settings(settings: dict[str, Any]) -> Settings:
    """
    Raises:
        DeploymentError: invalid-request, with the fields that are wrong.
    """
    try:
        read = Settings.model_validate(settings)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        _refuse([(_path(each["loc"]), _said(each["type"], each["msg"])) for each in found])
    if wrong := [*_wrong_requests(read)] or [*_wrong_together(read)]:
        _refuse(wrong)
    return read


def _refuse(wrong: list[Wrong]) -> NoReturn:
    fields = [(pointer_of("providerSettings", *(part[:100] for part in path)), why) for path, why in wrong[:MOST_TOLD]]
    told = "; ".join(f"{pointer} {why}" for pointer, why in fields)
    message = f"the description of the custom provider is refused: {told}"
    raise DeploymentError(ErrorCode.INVALID_REQUEST, message[:1000], fields=fields)


def _path(location: tuple[int | str, ...]) -> Path:
    """Pydantic adds '[key]' where it is the name itself that is wrong."""
    return tuple(str(part) for part in location if part != "[key]")


def _said(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "is not known; docs/custom-provider.md lists the fields"
    if kind == "missing":
        return "is missing"
    return message.removeprefix("Value error, ")


def _wrong_requests(settings: Settings) -> Iterator[Wrong]:
    for name, asked in settings.requests.described().items():
        for path, why in _wrong_request(name, asked):
            yield ("requests", name, *path), why


def _wrong_together(settings: Settings) -> Iterator[Wrong]:
    """Of requests that are right, each by itself."""
    yield from _wrong_find(settings)
    yield from _wrong_words(settings)
    yield from _wrong_logs(settings)
    yield from _wrong_auth(settings)
    if settings.poll.shortest_seconds > settings.poll.longest_seconds:
        yield ("poll", "longestSeconds"), "is shorter than shortestSeconds"


def _wrong_request(name: str, asked: Asked) -> Iterator[Wrong]:
    accepted = METHODS.get(name, OTHERS)
    if asked.method not in accepted:
        yield ("method",), f"cannot be {asked.method} here; accepted: {', '.join(accepted)}"
    if asked.body is not None and asked.method not in BODIES:
        yield ("body",), f"cannot go with {asked.method}"
    known = _known(name)
    yield from _wrong_url(asked.url, known)
    for header, template in asked.headers.items():
        if why := KEPT.get(header.lower()):
            yield ("headers", header), f"cannot be set here: {why}"
        yield from _wrong_text(("headers", header), template, known, "secrets.")
        if not (template.isascii() and template.isprintable()):
            yield ("headers", header), "has characters that cannot be sent: accepted are printable ASCII"
    for parameter, template in asked.query.items():
        yield from _wrong_text(("query", parameter), template, known)
    try:
        for path, template in leaves(asked.body, "body"):
            yield from _wrong_text(path, template, known, "secrets.", in_body=True)
    except ValueError as error:
        yield ("body",), str(error)


def _known(name: str) -> frozenset[str]:
    """The placeholders that have a value when this request is made; but for those of one variable or secret."""
    of_place = {"cursor", "offset"} if name == "logs" else set()
    of_build = set() if name in BEFORE_A_BUILD else {"buildId"}
    return frozenset({*NAMES, *of_place, *of_build, *(f"configuration.{field}" for field in CONFIGURATION)})


def _wrong_url(url: str, known: frozenset[str]) -> Iterator[Wrong]:
    try:
        named = placeholders(url)
    except ValueError as error:
        yield ("url",), str(error)
        return
    origin, path = split(url)
    literal = path.replace("{", "").replace("}", "")
    if "{" in origin or askable((origin or "http://host") + literal) is None:
        yield ("url",), "is neither a path that begins with / nor a whole http(s) address without credentials"
    if "?" in path or "#" in path:
        yield ("url",), "has a query or a fragment of its own; parameters belong in query"
    accepted = known & (NAMES | {"buildId"})
    for name in named:
        if name not in accepted:
            yield ("url",), _not_known(name, accepted)


def split(url: str) -> tuple[str, str]:
    """The address of the host, '' where it is that of `baseUrl`, and the path."""
    if url.startswith("/"):
        return "", url
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}", slash + path


def _wrong_text(path: Path, template: str, known: frozenset[str], *more: str, in_body: bool = False) -> Iterator[Wrong]:
    try:
        named, whole = placeholders(template), is_whole(template)
    except ValueError as error:
        yield path, str(error)
        return
    for name in named:
        if name in WHOLE and (not in_body or not whole):
            yield path, f"has {{{name}}}, which is a map: it stands alone, in a body"
        elif name not in known | WHOLE and not any(_is_one(name, of) for of in ("variables.", *more)):
            yield path, _not_known(name, known)


def _is_one(name: str, of: str) -> bool:
    return name.startswith(of) and len(name) > len(of)


def _not_known(name: str, accepted: frozenset[str]) -> str:
    return f"has the placeholder {name[:60]!r}, which has no value here; accepted: {', '.join(sorted(accepted))}"


def _wrong_find(settings: Settings) -> Iterator[Wrong]:
    find, create = settings.requests.find, settings.requests.create
    if find is None:
        return
    where = ("requests", "find", "answer")
    if find.answer.match is None and (find.answer.items is not None or "deploymentId" not in placeholders(find.url)):
        yield (*where, "match"), "is missing: it has to be seen that the build that is found is ours"
    if find.answer.id is None and create.answer.id is not None:
        yield (*where, "id"), "is missing: the answer of create has one"
    if find.answer.id is not None and create.answer.id is None:
        yield ("requests", "create", "answer", "id"), "is missing: the answer of find has one"


def _wrong_words(settings: Settings) -> Iterator[Wrong]:
    needed = {"built": "for success", "failed": "for failure"}
    if settings.requests.cancel is not None:
        needed["canceled"] = "for what was canceled, since there is a request cancel"
    for stage, what in needed.items():
        if stage not in settings.words.values():
            yield ("words",), f"has no word {what}: none means {stage!r}"


def _wrong_logs(settings: Settings) -> Iterator[Wrong]:
    logs, asked = settings.logs, settings.requests.logs
    place = PLACES.get(logs.kind)
    if place and asked is None:
        yield ("requests", "logs"), f"is missing: logs are read as {logs.kind}"
    if asked is not None and place is None:
        yield ("requests", "logs"), f"is of no use: logs.kind is {logs.kind!r}"
    if asked is not None and place and not _holds(asked, place):
        yield ("requests", "logs"), f"has {{{place}}} neither in its query nor in its headers or body"
    listed = logs.kind in {"page", "status"}
    for name in ("lines", "line"):
        there = getattr(logs, name) is not None
        if there is not listed:
            yield ("logs", name), "is missing" if listed else f"is of no use with kind {logs.kind!r}"
    if logs.kind == "page" and logs.next is None and (logs.line is None or logs.line.id is None):
        yield ("logs", "next"), "is missing: without it and line.id nobody knows where the next page begins"
    if logs.kind != "page" and logs.next is not None:
        yield ("logs", "next"), f"is of no use with kind {logs.kind!r}"


def _holds(asked: Asked, name: str) -> bool:
    templates = [*asked.query.values(), *asked.headers.values(), *(text for _, text in leaves(asked.body))]
    return any(name in placeholders(template) for template in templates)


def _wrong_auth(settings: Settings) -> Iterator[Wrong]:
    """What goes with a kind of credentials, and of signatures."""
    auth, webhooks = settings.auth, settings.webhooks
    belongs = []
    if auth is not None:
        belongs += [
            (("auth", "header"), auth.header, auth.type == "header", True),
            (("auth", "prefix"), auth.prefix, auth.type == "header", False),
            (("auth", "user"), auth.user, auth.type == "basic", True),
        ]
    if webhooks is not None:
        by_hmac = webhooks.scheme == "hmac-sha256"
        belongs += [
            (("webhooks", "header"), webhooks.header, by_hmac, True),
            (("webhooks", "prefix"), webhooks.prefix, by_hmac, False),
        ]
    for path, value, fits, needed in belongs:
        if value is not None and not fits:
            yield path, "is of no use here"
        if value is None and fits and needed:
            yield path, "is missing"
