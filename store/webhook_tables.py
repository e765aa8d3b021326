"""The table of webhooks as SQLModel defines it, for its list."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Column, DateTime, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


class WebhookRow(SQLModel, table=True):
    __tablename__ = "webhooks"

    id: UUID = Field(primary_key=True)
    sender: str
    provider: str | None
    project_id: str | None
    identity: str
    delivery_id: str | None
    kind: str
    build_ids: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    deployment_id: UUID | None
    push: dict[str, Any] | None = Field(sa_column=Column(JSONB, nullable=True))
    state: str
    reason: str | None
    received_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    settled_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True), nullable=True))
