"""What the environment says about the service (`HEADWAY_…`). Read by the entry points alone, handed down as values.

Rule: what cannot be meant ends the process at its start, by a line for each variable on standard error and exit code 2.
No line holds a value that may be secret.
"""

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, NoReturn
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.errors import DeploymentError
from domain.oidc import ACCEPTED, TrustedIssuer, check_together
from store.seal import Sealer

Role = Literal["workflows", "builds"]
PREFIX = "HEADWAY_"
_JSON = {"oidc_issuers": ACCEPTED, "build_environment": '{"NAME": "value"}'}
"""What is accepted of settings that are JSON."""
_EXIT_CODE = 2
_MOST_SHOWN = 80


class Settings(BaseSettings):
    """Defaults are those of the local stack where they are harmless, else there is none."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    database_url: SecretStr = Field(description="postgresql://user:password@host:port/database, PostgreSQL 15 or newer")
    database_pool_size: int = Field(default=10, ge=1)
    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    temporal_ui_url: str | None = Field(default=None, description="for the links of a deployment, and to show payloads")
    temporal_ui_key: SecretStr | None = Field(default=None, description="lets Temporal's UI have payloads decoded")
    data_dir: Path = Field(default=Path(".headway"), description="builds, releases and caches of the internal provider")
    secret_keys: SecretStr = Field(description="id:base64 of 32 bytes, comma-separated; the first one seals, all open")

    trigger_limit: int = Field(default=10, description="accepted triggers per minute and project")
    max_body_bytes: int = 1024 * 1024
    first_token: SecretStr | None = Field(
        default=None, description="a token with every scope, kept from the first start on"
    )

    vercel_token: SecretStr | None = Field(default=None, description="where a project brings none of its own")
    vercel_api_url: str = "https://api.vercel.com"
    netlify_token: SecretStr | None = Field(default=None, description="where a project brings none of its own")
    netlify_api_url: str = "https://api.netlify.com/api/v1"
    github_token: SecretStr | None = Field(default=None, description="where a project brings none of its own")
    github_app_id: str | None = Field(default=None, description="instead of a token")
    github_app_key: SecretStr | None = Field(default=None, description="the app's private key, PEM")
    github_api_url: str = "https://api.github.com"
    public_url: str | None = Field(default=None, description="of this API, for links that providers show")

    github_webhook_secret: SecretStr | None = Field(default=None, description="two, parted by a comma, in a rotation")
    gitlab_webhook_secret: SecretStr | None = Field(default=None, description="a secret token, or whsec_… to sign with")
    netlify_webhook_secret: SecretStr | None = None
    vercel_webhook_secret: SecretStr | None = None

    worker_roles: Annotated[frozenset[Role], NoDecode] = frozenset(("workflows", "builds"))
    worker_versioning: Literal["off", "pinned"] = Field(
        default="off", description="whether a deployment stays with the version of the worker that it began under"
    )
    build_id: str | None = Field(default=None, max_length=255, description="names it; else the package's version does")
    worker_metrics_address: str | None = Field(default=None, description="host:port of the worker's Prometheus page")
    edge_admin_url: str = "http://127.0.0.1:2019"
    edge_url: str = Field(default="http://localhost:8081", description="where published sites are reached")
    sites_domain: str = "localhost"
    allow_private_addresses: bool = Field(
        default=False, description="whether git, providers and issuers may be at private addresses"
    )
    oidc_issuers: Annotated[list[TrustedIssuer], NoDecode] = Field(
        default_factory=list, description="whose OpenID Connect tokens are accepted, and what their claims allow; JSON"
    )
    build_environment: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict,
        description="variables of every build, as JSON; for example the address of a package mirror",
    )
    keep_releases: int = Field(default=10, description="per environment")
    keep_days: int = 30

    log_archive: str | None = Field(default=None, description="a directory that exists, or s3://bucket/prefix")
    log_archive_endpoint: str | None = Field(default=None, description="of a bucket that is not at AWS")
    log_archive_region: str | None = None
    log_archive_access_key: str | None = Field(default=None, description="without one: the role of the machine")
    log_archive_secret_key: SecretStr | None = None
    log_archive_days: int = Field(default=365, ge=0, description="age at which an archived log is deleted")
    log_keep_days: int = Field(default=30, ge=0, description="age at which a log leaves the database")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("worker_roles", mode="before")
    @classmethod
    def _split(cls, roles: object) -> object:
        return [role.strip() for role in roles.split(",")] if isinstance(roles, str) else roles

    @field_validator(*_JSON, mode="before")
    @classmethod
    def _parsed(cls, said: object, field: ValidationInfo) -> object:
        if not isinstance(said, str):
            return said
        accepted = _JSON[field.field_name or ""]
        try:
            return json.loads(said or ("[]" if accepted.startswith("[") else "{}"))
        except ValueError as error:
            raise ValueError(f"is no JSON ({error}); accepted: {accepted}") from None

    @field_validator("database_url")
    @classmethod
    def _of_a_database(cls, url: SecretStr) -> SecretStr:
        try:
            conninfo_to_dict(url.get_secret_value())
        except psycopg.ProgrammingError:  # its text repeats the address, and with it the password
            raise ValueError("cannot be read; expected postgresql://user:password@host:port/database") from None
        return url

    @field_validator("secret_keys")
    @classmethod
    def _that_seal(cls, keys: SecretStr) -> SecretStr:
        Sealer(keys.get_secret_value())
        return keys

    @field_validator("worker_metrics_address")
    @classmethod
    def _of_a_page(cls, address: str | None) -> str | None:
        if address and not _is_ip_and_port(address):
            raise ValueError("expected IP:port, such as 127.0.0.1:9464 or 0.0.0.0:9464")
        return address or None

    @field_validator("vercel_api_url", "netlify_api_url", "github_api_url", "edge_url", "public_url", "temporal_ui_url")
    @classmethod
    def _of_the_web(cls, url: str | None) -> str | None:
        if url and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
            raise ValueError("expected http://host or https://host, with a port and a path where there are any")
        return url

    @field_validator("oidc_issuers")
    @classmethod
    def _apart(cls, issuers: list[TrustedIssuer], known: ValidationInfo) -> list[TrustedIssuer]:
        check_together(issuers)
        plain = [trusted.issuer for trusted in issuers if trusted.issuer.startswith("http:")]
        if plain and not known.data.get("allow_private_addresses"):
            raise ValueError(f"the issuer {plain[0]} needs HEADWAY_ALLOW_PRIVATE_ADDRESSES=true; accepted: https://…")
        return issuers

    @field_validator("log_archive")
    @classmethod
    def _place(cls, place: str | None) -> str | None:
        if place and not re.fullmatch(r"s3://[^/]+(/.*)?|(?!\w+://).*", place):
            raise ValueError("expected a directory, or s3://bucket or s3://bucket/prefix")
        return place or None

    @property
    def log_archive_access(self) -> dict[str, str | None]:
        """How a bucket is reached."""
        secret = self.log_archive_secret_key
        return {
            "endpoint": self.log_archive_endpoint,
            "region": self.log_archive_region,
            "access_key": self.log_archive_access_key,
            "secret_key": None if secret is None else secret.get_secret_value(),
        }


def _is_ip_and_port(address: str) -> bool:
    try:
        parts = urlsplit(f"//{address}")
        return bool(ip_address(parts.hostname or "") and parts.port)
    except ValueError:
        return False


def read() -> Settings:
    """What the environment says. Ends the process where that cannot be meant."""
    try:
        return Settings()
    except ValidationError as error:
        _refuse(_line(one) for one in error.errors(include_url=False, include_context=False))


@contextlib.contextmanager
def blamed(name: str) -> Iterator[None]:
    """What a process finds out about a setting only when it works with it ends the process likewise."""
    try:
        yield
    except (OSError, DeploymentError) as error:
        why = error.message if isinstance(error, DeploymentError) else error
        _refuse([f"{PREFIX}{name.upper()}: {why}"])


def _refuse(lines: Iterable[str]) -> NoReturn:
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    raise SystemExit(_EXIT_CODE)


def _line(error: ErrorDetails) -> str:
    name, *inside = error["loc"]
    field = Settings.model_fields[str(name)]
    where = "".join(f" at {'.'.join(map(str, inside))}:" for _ in inside[:1])
    why = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing" and not inside:
        why = f"is missing; expected {field.description}"
    return f"{PREFIX}{str(name).upper()}:{where} {_shown(str(name), error)}{why}"


def _shown(name: str, error: ErrorDetails) -> str:
    """The value that was refused, where it cannot hold a secret: a simple one, and no address with a password."""
    said = error["input"]
    secret = name in _JSON or "SecretStr" in str(Settings.model_fields[name].annotation)
    simple = not secret and isinstance(said, str) and len(said) <= _MOST_SHOWN and "@" not in said
    return f"{said!r} is refused: " if simple else ""
