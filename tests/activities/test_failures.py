"""Errors of ours as failures of Temporal: the code is the type and decides whether it is tried again."""

from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError

from activities.failures import failing_plainly
from domain.errors import RETRYABLE, DeploymentError, ErrorCode


@pytest.mark.parametrize("code", sorted(ErrorCode))
async def test_a_code_becomes_the_type_of_a_failure(code: ErrorCode) -> None:
    @failing_plainly
    async def step() -> None:
        raise DeploymentError(code, "no", retry_after_seconds=3, details={"hint": "yes"})

    with pytest.raises(ApplicationError, match="no") as raised:
        await step()
    assert raised.value.type == code
    assert raised.value.non_retryable == (code not in RETRYABLE)
    assert raised.value.details == ({"hint": "yes"},)
    assert raised.value.next_retry_delay == timedelta(seconds=3)


async def test_a_bug_stays_what_it_is() -> None:
    @failing_plainly
    async def step() -> None:
        raise KeyError("oops")

    with pytest.raises(KeyError):
        await step()
