"""Which push of a branch is the newest, whatever the order they arrived in.

Rules: a push that begins where another one ended came after it. Pushes that are joined so make a strand; where strands
do not meet, the time that the sender tells decides, else the order of arrival, and then it is not certain: the push
between them may still be on its way.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Move:
    """A branch went from one commit to another. `at` is when, where the sender tells it."""

    before: str
    after: str
    at: int | None = None


@dataclass(frozen=True)
class Newest:
    """`head` is the newest push by its place among the arrivals; `unsure_since` the arrival that began the doubt."""

    head: int
    unsure_since: int | None = None


def newest(arrivals: Sequence[Move]) -> Newest:
    """Raises ValueError when there are none."""
    strands: list[list[int]] = []
    for number, move in enumerate(arrivals):
        _join(strands, arrivals, number, move)
    if not strands:
        raise ValueError("no pushes")
    best, sure = strands[0], True
    for strand in strands[1:]:
        ours, theirs = arrivals[best[-1]].at, arrivals[strand[-1]].at
        if ours is None or theirs is None or ours == theirs:
            best, sure = strand, False
        elif theirs > ours:
            best, sure = strand, True
    return Newest(best[-1], None if sure else min(best))


def _join(strands: list[list[int]], arrivals: Sequence[Move], number: int, move: Move) -> None:
    before = next((strand for strand in reversed(strands) if arrivals[strand[-1]].after == move.before), None)
    if before is None:
        before = []
        strands.append(before)
    before.append(number)
    later = (strand for strand in strands if strand is not before and arrivals[strand[0]].before == move.after)
    if (after := next(later, None)) is not None:
        after[:0] = before
        strands.remove(before)
