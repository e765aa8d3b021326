"""Every error that a caller can act on: one list of codes, one exception. Anything else is a bug of ours."""

from enum import StrEnum
from typing import Any


class ErrorCode(StrEnum):
    NOT_FOUND = "deployment/not-found"
    ENVIRONMENT_NOT_FOUND = "deployment/environment-not-found"
    PROJECT_NOT_FOUND = "deployment/project-not-found"
    ALREADY_RUNNING = "deployment/already-running"
    CONFLICT = "deployment/conflict"
    INVALID_SOURCE_REF = "deployment/invalid-source-ref"
    INVALID_REQUEST = "deployment/invalid-request"
    IDEMPOTENCY_MISMATCH = "deployment/idempotency-mismatch"
    PRECONDITION_FAILED = "deployment/precondition-failed"
    UNAUTHENTICATED = "deployment/unauthenticated"
    INSUFFICIENT_PERMISSIONS = "deployment/insufficient-permissions"
    RATE_LIMITED = "deployment/rate-limited"
    PROVIDER_ERROR = "deployment/provider-error"
    BUILD_FAILED = "deployment/build-failed"
    DEPLOY_FAILED = "deployment/deploy-failed"
    TIMEOUT = "deployment/timeout"
    CANCELED = "deployment/canceled"
    TERMINATED = "deployment/terminated"
    UNAVAILABLE = "deployment/unavailable"
    INTERNAL = "deployment/internal"


RETRYABLE = frozenset(
    {ErrorCode.RATE_LIMITED, ErrorCode.PROVIDER_ERROR, ErrorCode.UNAVAILABLE, ErrorCode.TIMEOUT, ErrorCode.INTERNAL}
)
"""Codes where the same request may succeed later without being changed."""


class DeploymentError(Exception):
    """What was refused or went wrong, said so that the caller can act on it.

    `fields` pairs a JSON pointer into the request body with what is wrong there. `retry_after_seconds` is how long a
    caller should wait. `details` are further members of a problem document or of a deployment's `error`
    (`phase`, `hint`, `logExcerpt` …).
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        fields: list[tuple[str, str]] | None = None,
        retry_after_seconds: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fields = fields or []
        self.retry_after_seconds = retry_after_seconds
        self.details = details or {}

    @property
    def retryable(self) -> bool:
        return self.code in RETRYABLE

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
