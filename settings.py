"""What the environment says about the service (`HEADWAY_…`). Read by the entry points alone, handed down as values."""

import json
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.oidc import ACCEPTED, TrustedIssuer, check_together

Role = Literal["workflows", "builds"]


class Settings(BaseSettings):
    """Defaults are those of the local stack where they are harmless, else there is none."""

    model_config = SettingsConfigDict(env_prefix="HEADWAY_", extra="ignore", frozen=True)

    database_url: SecretStr = Field(description="postgresql://user:password@host:port/database, PostgreSQL 15 or newer")
    database_pool_size: int = 10
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
    build_environment: dict[str, str] = Field(
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
        return frozenset(role.strip() for role in roles.split(",")) if isinstance(roles, str) else roles

    @field_validator("oidc_issuers", mode="before")
    @classmethod
    def _parsed(cls, issuers: object) -> object:
        if not isinstance(issuers, str):
            return issuers
        try:
            return json.loads(issuers or "[]")
        except ValueError as error:
            raise ValueError(f"is no JSON ({error}); accepted: {ACCEPTED}") from None

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
