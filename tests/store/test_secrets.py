"""Secrets of projects, environments and deployments: which versions there are, and which ran."""

import asyncio
from typing import Any

import pytest

from domain.configuration import ConfigurationChange
from domain.deployment import Deployment, RetryRequest, TriggerDeploymentRequest
from domain.ending import Ending
from domain.page import PageRequest
from domain.project import Project, UpdateEnvironmentRequest, UpdateProjectRequest
from domain.states import Status
from store.deployments import DeploymentStore
from store.progress import ProgressStore
from store.projects import ProjectStore

PAGE = PageRequest()


def secrets(**values: str | None) -> ConfigurationChange:
    return ConfigurationChange(secrets=values)


async def change(projects: ProjectStore, actor: str = "ada", **values: str | None) -> Project:
    return await projects.update_project("shop", UpdateProjectRequest(configuration=secrets(**values)), actor)


async def trigger(deployments: DeploymentStore, **fields: Any) -> Deployment:
    asked = TriggerDeploymentRequest(project_id="shop", source_ref="main", concurrency="parallel", **fields)
    return (await deployments.trigger(asked, "ada")).answer


def used(deployment: Deployment) -> dict[str, tuple[str, int | None]]:
    return {name: (use.scope, use.version) for name, use in deployment.secret_versions.items()}


@pytest.mark.usefixtures("shop")
async def test_each_value_of_a_secret_is_a_version(projects: ProjectStore) -> None:
    for value in ("one", "one", "two", None, "two"):
        await change(projects, "bob", KEY=value)
    shop = await projects.get_project("shop")
    told = {name: (one.version, one.updated_by) for name, one in shop.secret_versions.items()}
    assert told == {"KEY": (3, "bob"), "NPM_TOKEN": (1, "ada")}
    assert shop.configuration["secrets"] == {"KEY": "***", "NPM_TOKEN": "***"}


@pytest.mark.usefixtures("shop")
async def test_versions_are_counted_exactly_by_many_at_once(projects: ProjectStore) -> None:
    environment = (await projects.list_environments("shop", PAGE)).items[0]

    async def set_both(number: int) -> None:
        await change(projects, KEY=f"value-{number}")
        own = UpdateEnvironmentRequest(configuration=secrets(KEY=f"value-{number}"))
        await projects.update_environment(environment.id, own, "ada")

    await asyncio.gather(*(set_both(number) for number in range(20)))
    assert (await projects.get_project("shop")).secret_versions["KEY"].version == 20
    assert (await projects.get_environment(environment.id)).secret_versions["KEY"].version == 20


@pytest.mark.usefixtures("shop")
async def test_a_deployment_says_which_versions_it_runs_with(
    projects: ProjectStore, deployments: DeploymentStore, progress: ProgressStore
) -> None:
    await change(projects, KEY="one", OTHER="one", THIRD="one", FOURTH="one")
    await change(projects, KEY="two")
    first = await trigger(deployments)
    own = UpdateEnvironmentRequest(configuration=secrets(OTHER="own"))
    await projects.update_environment(first.environment_id, own, "ada")
    second = await trigger(deployments, configuration=secrets(THIRD="asked", FOURTH=None))
    assert used(first) == {
        "FOURTH": ("project", 1),
        "KEY": ("project", 2),
        "NPM_TOKEN": ("project", 1),
        "OTHER": ("project", 1),
        "THIRD": ("project", 1),
    }
    assert used(second) == {
        "KEY": ("project", 2),
        "NPM_TOKEN": ("project", 1),
        "OTHER": ("environment", 1),
        "THIRD": ("request", None),
    }
    await change(projects, KEY="three")
    await progress.finish(second.id, Ending(status=Status.FAILED))
    asked = RetryRequest(configuration=secrets(OTHER="asked"), concurrency="parallel")
    again = (await deployments.retry(second.id, asked, "ada")).answer
    assert used(again) == {**used(second), "OTHER": ("request", None)}
