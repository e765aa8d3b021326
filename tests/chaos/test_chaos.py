"""The short form of `make chaos`: kills under a few deployments at every status."""

import random
from collections.abc import AsyncIterator

import pytest

from tests.chaos.__main__ import fitting
from tests.chaos.round import GROUPS, Round, World, world
from tests.chaos.target import target

EACH = 2


@pytest.fixture(scope="module")
async def around(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    directory = tmp_path_factory.mktemp("chaos")
    async with target(directory) as stack, world(stack, directory) as one:
        yield one


@pytest.mark.parametrize("part", ["worker", "all", "supervisor"])
async def test_a_killed_part_costs_deployments_nothing_but_time(around: World, part: str) -> None:
    one = Round(part, "kill", fitting(part, "kill", tuple(GROUPS)), EACH, 0, random.Random(part))
    await one.run(around)
    assert one.problems == []
    assert one.hit == dict.fromkeys(one.groups, EACH)
