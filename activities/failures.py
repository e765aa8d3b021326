"""The one border where errors of ours become failures of Temporal: the code is the type and decides about retries.

Here, too, the store learns which attempt writes (`domain.fence`).
"""

import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import ParamSpec, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from domain.errors import DeploymentError
from domain.fence import ATTEMPT, Overtaken

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


def failing_plainly(step: Callable[Parameters, Awaitable[Answer]]) -> Callable[Parameters, Awaitable[Answer]]:
    """Raises a `DeploymentError` of `step` as an `ApplicationError`; anything else is a bug, and is tried again.

    So is a step that was overtaken, and quietly: where it was by its own next attempt, Temporal no longer listens.
    """

    @functools.wraps(step)
    async def translated(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        token = ATTEMPT.set(activity.info().current_attempt_scheduled_time)
        try:
            return await step(*args, **kwargs)
        except DeploymentError as error:
            raise failure_of(error) from error
        except Overtaken as error:
            activity.logger.info("overtaken: %s", error)
            raise ApplicationError(str(error), type="Overtaken", category=ApplicationErrorCategory.BENIGN) from error
        finally:
            ATTEMPT.reset(token)

    return translated


def failure_of(error: DeploymentError) -> ApplicationError:
    delay = None if error.retry_after_seconds is None else timedelta(seconds=error.retry_after_seconds)
    return ApplicationError(
        error.message, error.details, type=error.code, non_retryable=not error.retryable, next_retry_delay=delay
    )
