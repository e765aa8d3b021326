"""The table of the audit as SQLModel defines it, for its list."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, Column, DateTime, LargeBinary
from sqlmodel import Field, SQLModel


class AuditRow(SQLModel, table=True):
    __tablename__ = "audit"

    id: UUID = Field(primary_key=True)
    project_id: str | None
    sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    actor: str
    token_id: str | None
    request_id: str | None
    action: str
    target: str
    reason: str | None
    before: str | None
    after: str | None
    details: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    previous_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
