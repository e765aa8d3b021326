"""The tables as SQLModel defines them: lists are put together from these. A test holds the migrations against them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Column, DateTime, LargeBinary, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


def _json(*, nullable: bool = False) -> Any:
    return Field(sa_column=Column(JSONB, nullable=nullable))


def _moment(*, nullable: bool = False) -> Any:
    return Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=nullable))


def _count() -> Any:
    return Field(sa_column=Column(BigInteger, nullable=False))


def _sealed() -> Any:
    return Field(default=None, sa_column=Column(LargeBinary, nullable=True))


class ProjectRow(SQLModel, table=True):
    __tablename__ = "projects"

    id: str = Field(primary_key=True)
    name: str
    provider: str
    provider_settings: dict[str, Any] = _json()
    repository_url: str | None
    configuration: dict[str, Any] = _json()
    secrets: bytes | None = _sealed()
    secret_versions: dict[str, Any] = _json()
    concurrency: str
    cancel_running: bool
    push_rules: list[dict[str, Any]] = _json()
    previews: dict[str, Any] | None = _json(nullable=True)
    repository_key: str | None
    event_sequence: int = _count()
    audit_sequence: int = _count()
    audit_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = _moment()
    updated_at: datetime = _moment()
    version: int = _count()


class EnvironmentRow(SQLModel, table=True):
    __tablename__ = "environments"

    id: UUID = Field(primary_key=True)
    project_id: str = Field(foreign_key="projects.id")
    name: str
    type: str
    configuration: dict[str, Any] = _json()
    secrets: bytes | None = _sealed()
    secret_versions: dict[str, Any] = _json()
    is_default: bool
    concurrency: str | None
    cancel_running: bool | None
    protection: dict[str, Any] = _json()
    held_ref: str | None
    held_commit: str | None
    held_by: UUID | None
    branch: str | None
    expires_at: datetime | None = _moment(nullable=True)
    deleted_at: datetime | None = _moment(nullable=True)
    take_down_asked_at: datetime | None = _moment(nullable=True)
    taken_down_at: datetime | None = _moment(nullable=True)
    last_sequence: int = _count()
    last_publication: int = _count()
    created_at: datetime = _moment()
    updated_at: datetime = _moment()
    version: int = _count()


class DeploymentRow(SQLModel, table=True):
    __tablename__ = "deployments"

    id: UUID = Field(primary_key=True)
    project_id: str = Field(foreign_key="projects.id")
    environment_id: UUID = Field(foreign_key="environments.id")
    environment_name: str
    sequence: int = _count()
    source_ref: str
    commit_sha: str | None
    triggered_by: str
    message: str | None
    status: str
    waiting_on: str | None
    waiting_reason: str | None
    waiting_since: datetime | None = _moment(nullable=True)
    provider: str
    provider_settings: dict[str, Any] = _json()
    repository_url: str | None
    build_id: str | None
    task_queue: str | None
    artifact_id: str | None
    deployment_url: str | None
    preview_urls: list[str] = _json()
    rollback_of: UUID | None
    restores: UUID | None
    superseded_by: UUID | None
    cancel_requested_at: datetime | None = _moment(nullable=True)
    cancel_delivered_at: datetime | None = _moment(nullable=True)
    workflow_started_at: datetime | None = _moment(nullable=True)
    lane: str
    lane_policy: str
    wake_asked_at: datetime | None = _moment(nullable=True)
    wake_delivered_at: datetime | None = _moment(nullable=True)
    approvals: list[dict[str, Any]] = _json()
    break_glass: str | None
    descent: dict[str, Any] | None = _json(nullable=True)
    fence: datetime | None = _moment(nullable=True)
    publication: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    forced: bool
    error: dict[str, Any] | None = _json(nullable=True)
    # `metadata` is taken by SQLAlchemy's own classes.
    facts: dict[str, Any] = Field(sa_column=Column("metadata", JSONB, nullable=False))
    configuration: dict[str, Any] = _json()
    configuration_digest: str
    secrets: bytes | None = _sealed()
    secret_versions: dict[str, Any] = _json()
    started_at: datetime | None = _moment(nullable=True)
    finished_at: datetime | None = _moment(nullable=True)
    created_at: datetime = _moment()
    updated_at: datetime = _moment()
    version: int = _count()


class TokenRow(SQLModel, table=True):
    __tablename__ = "tokens"

    id: UUID = Field(primary_key=True)
    subject: str
    fingerprint: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    scopes: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    projects: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    expires_at: datetime | None = _moment(nullable=True)
    revoked_at: datetime | None = _moment(nullable=True)
    created_at: datetime = _moment()
