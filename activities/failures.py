"""The one border where errors of ours become failures of Temporal: the code is the type and decides about retries."""

import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import ParamSpec, TypeVar

from temporalio.exceptions import ApplicationError

from domain.errors import DeploymentError

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


def failing_plainly(step: Callable[Parameters, Awaitable[Answer]]) -> Callable[Parameters, Awaitable[Answer]]:
    """Raises a `DeploymentError` of `step` as an `ApplicationError`; anything else is a bug, and is tried again."""

    @functools.wraps(step)
    async def translated(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        try:
            return await step(*args, **kwargs)
        except DeploymentError as error:
            raise failure_of(error) from error

    return translated


def failure_of(error: DeploymentError) -> ApplicationError:
    delay = None if error.retry_after_seconds is None else timedelta(seconds=error.retry_after_seconds)
    return ApplicationError(
        error.message, error.details, type=error.code, non_retryable=not error.retryable, next_retry_delay=delay
    )
