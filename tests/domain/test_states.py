"""The table itself: what it promises about every status."""

import pytest

from domain.states import ACTIVE, TERMINAL, TRANSITIONS, Event, IllegalMove, Status, diagram, moves, next_status

HAPPY = [Status.QUEUED, Status.INITIALIZING, Status.BUILDING, Status.DEPLOYING, Status.SUCCEEDED]


def test_every_status_has_a_row() -> None:
    assert set(TRANSITIONS) == set(Status)


def test_the_four_final_statuses_are_those_without_a_way_out() -> None:
    assert {"succeeded", "failed", "canceled", "timeout"} == TERMINAL
    assert set(Status) - TERMINAL == ACTIVE


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_whatever_runs_can_fail_be_canceled_and_run_out_of_time(status: Status) -> None:
    ends = {next_status(status, event) for event in (Event.FAILURE, Event.CANCEL, Event.TIMEOUT)}
    assert ends == {Status.FAILED, Status.CANCELED, Status.TIMEOUT}


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.CREATED}))
def test_every_status_is_reached_from_created(status: Status) -> None:
    assert moves(Status.CREATED, status)[-1] is status


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("event", sorted(Event))
def test_nothing_moves_a_final_status(status: Status, event: Event) -> None:
    with pytest.raises(IllegalMove, match="final"):
        next_status(status, event)


def test_an_arrow_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(IllegalMove, match="accepted: trigger, failure, cancel, timeout"):
        next_status(Status.CREATED, Event.SUCCESS)


def test_stages_that_nobody_saw_are_made_up_for() -> None:
    assert moves(Status.CREATED, Status.SUCCEEDED) == HAPPY


@pytest.mark.parametrize("early", [Status.FAILED, Status.CANCELED, Status.TIMEOUT])
def test_an_early_end_passes_through_nothing(early: Status) -> None:
    assert moves(Status.QUEUED, early) == [early]


@pytest.mark.parametrize("number", range(len(HAPPY)))
def test_late_news_moves_nothing(number: int) -> None:
    for earlier in [Status.CREATED, *HAPPY][: number + 2]:
        assert moves(HAPPY[number], earlier) == []


def test_the_diagram_has_every_arrow() -> None:
    drawn = diagram()
    for status, row in TRANSITIONS.items():
        for event, goal in row.items():
            assert f"{status} --> {goal}: {event}" in drawn
