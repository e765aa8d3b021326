"""Errors of ours as failures of Temporal: the code is the type and decides whether it is tried again."""

from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import ActivityEnvironment

from activities.failures import failing_plainly
from domain.errors import RETRYABLE, DeploymentError, ErrorCode
from domain.fence import ATTEMPT, Overtaken


@pytest.mark.parametrize("code", sorted(ErrorCode))
async def test_a_code_becomes_the_type_of_a_failure(code: ErrorCode) -> None:
    @failing_plainly
    async def step() -> None:
        raise DeploymentError(code, "no", retry_after_seconds=3, details={"hint": "yes"})

    with pytest.raises(ApplicationError, match="no") as raised:
        await ActivityEnvironment().run(step)
    assert raised.value.type == code
    assert raised.value.non_retryable == (code not in RETRYABLE)
    assert raised.value.details == ({"hint": "yes"},)
    assert raised.value.next_retry_delay == timedelta(seconds=3)


async def test_a_bug_stays_what_it_is() -> None:
    @failing_plainly
    async def step() -> None:
        raise KeyError("oops")

    with pytest.raises(KeyError):
        await ActivityEnvironment().run(step)


async def test_who_was_overtaken_ends_quietly_and_may_try_again() -> None:
    environment = ActivityEnvironment()

    @failing_plainly
    async def step() -> None:
        assert ATTEMPT.get() == environment.info.current_attempt_scheduled_time
        raise Overtaken("somebody was here")

    with pytest.raises(ApplicationError, match="somebody was here") as raised:
        await environment.run(step)
    assert (raised.value.non_retryable, raised.value.category) == (False, ApplicationErrorCategory.BENIGN)
    assert ATTEMPT.get() is None
