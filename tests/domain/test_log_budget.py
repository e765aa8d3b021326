"""A log within its budget is whole; beyond, its beginning and its end are, and the rest is counted exactly."""

from hypothesis import given
from hypothesis import strategies as st

from domain.log_budget import Budget, LogBudget, Missing


def kept(sizes: list[int], budget: Budget, at_a_time: int = 1, stored: int = 0) -> tuple[list[int], list[int], Missing]:
    """The numbers of the lines that are kept at the beginning and at the end, and what is missing."""
    log: LogBudget[int] = LogBudget(budget, stored, sum(sizes[:stored]))
    head = list(range(stored))
    for at in range(stored, len(sizes), at_a_time):
        part = sizes[at : at + at_a_time]
        if log.has_room(len(part), sum(part)):
            log.count(len(part), sum(part))
            head += range(at, at + len(part))
        else:
            for n, size in enumerate(part, at):
                log.keep(n, size)
    return head, log.take_tail(), log.missing


def test_a_log_of_exactly_its_budget_is_whole() -> None:
    assert kept([1] * 5000, Budget(lines=5000)) == (list(range(4000)), list(range(4000, 5000)), Missing())
    assert kept([10] * 500, Budget(bytes=5000))[2] == Missing()


def test_beyond_its_budget_it_keeps_beginning_and_end_with_room_for_the_marker() -> None:
    head, tail, missing = kept([10] * 5001, Budget(lines=5000))
    assert (head, tail) == (list(range(4000)), list(range(4002, 5001)))
    assert missing == Missing(2, 20)
    assert missing.metadata == {"missingLines": 2, "missingBytes": 20}


def test_many_bytes_are_beyond_it_as_well() -> None:
    head, tail, missing = kept([1000] * 1000, Budget(bytes=100_000))
    assert (len(head), len(tail)) == (50, 49)
    assert missing == Missing(901, 901_000)


def test_short_lines_wait_in_bounded_memory() -> None:
    _, tail, missing = kept([200_000] * 6 + [0] * 100_000, Budget(bytes=2_000_000))
    assert len(tail) < 20_001
    assert missing.lines == 100_001 - len(tail)


def test_the_marker_says_what_is_missing() -> None:
    assert Missing(1, 3).message == "… 1 line is missing here (3 bytes): the log was beyond its limit"
    assert "… 12 lines are missing" in Missing(12, 3).message


@given(
    sizes=st.lists(st.integers(0, 300), max_size=120),
    lines=st.integers(2, 100),
    size=st.integers(600, 9000),
    at_a_time=st.integers(1, 9),
)
def test_what_is_kept_is_within_budget_and_the_rest_is_counted(
    sizes: list[int], lines: int, size: int, at_a_time: int
) -> None:
    budget = Budget(lines=lines, bytes=size)
    head, tail, missing = kept(sizes, budget, at_a_time)
    marker = [len(missing.message.encode())] if missing else []
    stored = [*(sizes[n] for n in head), *marker, *(sizes[n] for n in tail)]
    gone = sorted(set(range(len(sizes))) - {*head, *tail})
    assert gone == list(range(len(head), len(head) + missing.lines))
    assert sum(sizes[n] for n in gone) == missing.bytes
    assert len(stored) <= lines
    assert sum(stored) <= size
    assert bool(missing) == (len(sizes) > lines or sum(sizes) > size)
    assert kept(stored, budget)[2] == Missing()


@given(sizes=st.lists(st.integers(0, 300), max_size=120), stopped=st.integers(0, 120))
def test_who_goes_on_keeps_the_same(sizes: list[int], stopped: int) -> None:
    """Who takes over knows what is stored, and reads on from there."""
    budget = Budget(lines=50, bytes=6000)
    whole = kept(sizes, budget)
    assert kept(sizes, budget, stored=min(stopped, len(whole[0]))) == whole
