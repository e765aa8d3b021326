"""When a provider is left alone, for how long, and how it comes back."""

import pytest

from domain.errors import DeploymentError, ErrorCode
from providers.breaker import FIRST_PAUSE, LONGEST_PAUSE, THRESHOLD, Breaker, Breakers
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("acme", clock=clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        with breaker.attempt():
            breaker.failed("it answered 500")


def refused(breaker: Breaker) -> DeploymentError:
    with pytest.raises(DeploymentError) as error, breaker.attempt():
        pass
    return error.value


def wait_out(breaker: Breaker, clock: Clock) -> float:
    trouble = breaker.trouble
    assert trouble is not None
    clock.now += trouble.pause_seconds + 1
    return trouble.pause_seconds


def test_failures_in_a_row_open_it_and_say_since_when_and_why(breaker: Breaker) -> None:
    fail(breaker, THRESHOLD - 1)
    assert breaker.trouble is None

    fail(breaker)

    error = refused(breaker)
    assert error.code == ErrorCode.UNAVAILABLE
    assert error.retryable
    assert error.retry_after_seconds
    assert FIRST_PAUSE <= error.retry_after_seconds <= FIRST_PAUSE * 1.2
    assert breaker.trouble is not None
    assert "acme" in str(breaker.trouble)
    assert "it answered 500" in str(breaker.trouble)
    assert f"{breaker.trouble.since:%H:%M:%S}" in error.message


def test_a_success_between_failures_keeps_it_closed(breaker: Breaker) -> None:
    for _ in range(3):
        fail(breaker, THRESHOLD - 1)
        breaker.succeeded()

    assert breaker.trouble is None


def test_after_a_pause_one_call_tries_and_the_others_wait(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, THRESHOLD)
    wait_out(breaker, clock)

    with breaker.attempt():
        refused(breaker)
        breaker.succeeded()

    assert breaker.trouble is None
    with breaker.attempt():
        pass


def test_a_trial_that_was_given_up_leaves_room_for_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, THRESHOLD)
    wait_out(breaker, clock)

    with pytest.raises(KeyboardInterrupt), breaker.attempt():
        raise KeyboardInterrupt

    with breaker.attempt():
        breaker.succeeded()
    assert breaker.trouble is None


def test_a_trial_that_goes_on_after_its_success_holds_nobody_up(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, THRESHOLD)
    wait_out(breaker, clock)

    with breaker.attempt():  # a stream, open for hours
        breaker.succeeded()
        fail(breaker, THRESHOLD)
        wait_out(breaker, clock)
        with breaker.attempt():
            breaker.succeeded()

    assert breaker.trouble is None


def test_pauses_grow_up_to_a_bound(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, THRESHOLD)
    pauses = []
    for _ in range(10):
        pauses.append(wait_out(breaker, clock))
        fail(breaker)

    assert pauses[1] > pauses[0]
    assert pauses[2] > pauses[1]
    assert max(pauses) <= LONGEST_PAUSE * 1.2


def test_calls_that_were_on_their_way_do_not_make_the_pause_longer(breaker: Breaker) -> None:
    fail(breaker, THRESHOLD)

    for _ in range(20):
        breaker.failed("it answered 500")

    assert breaker.trouble is not None
    assert breaker.trouble.pause_seconds <= FIRST_PAUSE * 1.2


def test_each_account_has_its_own() -> None:
    breakers = Breakers()
    fail(breakers.of("acme", "one"), THRESHOLD)

    assert breakers.of("acme", "one").trouble
    assert breakers.of("acme", "two").trouble is None
