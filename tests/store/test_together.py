"""Rounds: what comes meanwhile goes together, each gets its own answer, and nobody fails by another's fault."""

import asyncio

import pytest

from domain.errors import DeploymentError, ErrorCode
from store.together import Together


async def test_what_comes_during_a_round_makes_the_next_one() -> None:
    rounds: list[list[int]] = []

    async def work(items: list[int]) -> list[int]:
        rounds.append(items)
        await asyncio.sleep(0)
        return [item * 2 for item in items]

    together = Together(work, most=3)
    assert await asyncio.gather(*(together(number) for number in range(5))) == [0, 2, 4, 6, 8]
    assert await together(5) == 10
    assert rounds == [[0, 1, 2], [3, 4], [5]]


async def test_one_that_meets_a_bug_fails_alone() -> None:
    async def work(items: list[int]) -> list[int]:
        if 1 in items:
            raise ZeroDivisionError
        return items

    answers = await asyncio.gather(*map(Together(work), range(3)), return_exceptions=True)
    assert (answers[0], type(answers[1]), answers[2]) == (0, ZeroDivisionError, 2)


async def test_what_is_out_of_reach_is_out_of_reach_for_all_and_asked_once() -> None:
    asked = 0

    async def work(items: list[int]) -> list[int]:
        nonlocal asked
        asked += 1
        raise DeploymentError(ErrorCode.UNAVAILABLE, "away")

    answers = await asyncio.gather(*map(Together(work), range(3)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {DeploymentError}
    assert asked == 1


async def test_who_goes_away_takes_nothing_from_the_others() -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def work(items: list[int]) -> list[int]:
        begun.set()
        await goes_on.wait()
        return items

    together = Together(work)
    leaves = asyncio.create_task(together(1))
    await begun.wait()
    stays = asyncio.create_task(together(2))
    leaves.cancel()
    goes_on.set()
    assert await stays == 2
    with pytest.raises(asyncio.CancelledError):
        await leaves
