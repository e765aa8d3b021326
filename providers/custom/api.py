"""The described API for one request of ours: what is sent, with which credential, and what its answers are held to be.

Rule: a secret is looked up by its name when it is sent; it is in no address, no parameter and no message.
"""

import base64
from typing import Any

from pydantic import JsonValue

from domain.build import BuildRequest
from domain.errors import DeploymentError, ErrorCode
from providers.custom.checks import CONFIGURATION, read_settings, split
from providers.custom.settings import Act, Asked
from providers.custom.templates import Values, filled, filled_text, filled_texts, placeholders
from providers.http import Answer, Call, Http, Session, Trouble

WHAT = {
    "create": "create the build",
    "find": "look for the build",
    "status": "tell how the build stands",
    "logs": "tell the build's log",
    "cancel": "cancel the build",
    "publish": "publish the build",
    "repoint": "make an earlier build live again",
}
GONE = frozenset({404, 410})
NO_MORE = 416
"""The answer to a range that begins where a text ends (RFC 9110)."""
HANDED_BACK = {
    "find": GONE,
    "status": GONE,
    "logs": GONE | {NO_MORE},
    "cancel": frozenset({400, 404, 409, 410, 422}),
}
PUBLISHING = frozenset({"publish", "repoint"})
WEBHOOK_SECRET = "CUSTOM_WEBHOOK_SECRET"  # noqa: S105 - the name of a secret
MAX_LOG_BYTES = 32 * 1024 * 1024


class Api:
    def __init__(self, http: Http, request: BuildRequest) -> None:
        self.request = request
        self.settings = read_settings(request.provider_settings)
        self._http = http
        self._values = self._known()
        self._credential = self._authorization()
        self._sessions: dict[str, Session] = {}

    @property
    def trouble(self) -> Trouble | None:
        return self._session(self.settings.requests.status).trouble

    async def ask(self, name: str, **more: Any) -> Answer:
        """Makes the request of that name, which is described. `more` are values of placeholders."""
        asked: Asked = getattr(self.settings.requests, name)
        values = {**self._values, **more}
        parts = {part: self._part_of_path(name, part, values) for part in placeholders(asked.url)}
        headers = self._headers(name, asked, values)
        return await self._session(asked).call(
            self._call(name, asked),
            params=filled_texts(asked.query, values),
            json=filled(asked.body, values),
            content=None,
            headers=headers,
            **parts,
        )

    def _call(self, name: str, asked: Asked) -> Call:
        done = frozenset(asked.also_done) if isinstance(asked, Act) else frozenset()
        return Call(
            WHAT[name],
            asked.method,
            split(asked.url)[1],
            handed_back=done | HANDED_BACK.get(name, frozenset()),
            repeatable=name != "create" or self.settings.idempotent_create,
            refused_as=ErrorCode.DEPLOY_FAILED if name in PUBLISHING else ErrorCode.INVALID_REQUEST,
            limited_as=name,
            urgent=name == "cancel",
            vital=name != "logs",
            max_bytes=MAX_LOG_BYTES if name == "logs" else Call.max_bytes,
            seconds=self.settings.timeout_seconds,
        )

    def _session(self, asked: Asked) -> Session:
        address = split(asked.url)[0] or self.settings.base_url
        if address not in self._sessions:
            hide = [*self.request.secrets.values(), *(value.partition(" ")[2] for value in self._credential.values())]
            self._sessions[address] = self._http.session(None, headers=self._credential, base_url=address, hide=hide)
        return self._sessions[address]

    def _headers(self, name: str, asked: Asked, values: Values) -> dict[str, str]:
        headers = filled_texts(asked.headers, values)
        for header, value in headers.items():
            if not (value.isascii() and value.isprintable()):
                message = f"the header {header} of {name} is refused: what is filled in is not printable ASCII"
                raise DeploymentError(ErrorCode.INVALID_REQUEST, message)
        if name == "create":
            headers["Idempotency-Key"] = f"headway-{self.request.deployment_id}"
        return headers

    def _part_of_path(self, name: str, part: str, values: Values) -> str:
        value = filled_text("{" + part + "}", values)
        if not value:
            message = f"{WHAT[name]}: its address has {{{part}}}, which this deployment does not have"
            raise DeploymentError(ErrorCode.INVALID_REQUEST, message)
        return value

    def _known(self) -> Values:
        request, configuration = self.request, self.request.configuration
        said = {
            name: value
            for name, value in configuration.model_dump(mode="json", by_alias=True).items()
            if name in CONFIGURATION and value is not None
        }
        own = {WEBHOOK_SECRET, self.settings.auth.secret if self.settings.auth else ""}
        secrets = {name: value for name, value in request.secrets.items() if name not in own}
        variables = configuration.environment_variables
        return {
            "deploymentId": request.deployment_id,
            "projectId": request.project_id,
            "environment": request.environment,
            "sourceRef": request.source_ref,
            "commitSha": request.commit_sha,
            "repositoryUrl": request.repository_url,
            "configuration": said,
            "variables": variables,
            "secrets": secrets,
            **{f"configuration.{name}": value for name, value in said.items()},
            **{f"variables.{name}": value for name, value in variables.items()},
            **{f"secrets.{name}": value for name, value in request.secrets.items()},
        }

    def _authorization(self) -> dict[str, str]:
        auth = self.settings.auth
        if auth is None:
            return {}
        secret = self.request.secrets.get(auth.secret)
        if not secret:
            message = f"the project has no secret {auth.secret}, which its description names in auth"
            raise DeploymentError(ErrorCode.INSUFFICIENT_PERMISSIONS, message)
        if auth.type == "header":
            return {auth.header or "": f"{auth.prefix or ''}{secret}"}
        if auth.type == "basic":
            return {"Authorization": "Basic " + base64.b64encode(f"{auth.user}:{secret}".encode()).decode()}
        return {"Authorization": f"Bearer {secret}"}


def document_of(answer: Answer) -> Any:
    """
    Raises:
        DeploymentError: provider-error, when it is no JSON.
    """
    return answer.read(JsonValue)  # type: ignore[arg-type] # a type alias
