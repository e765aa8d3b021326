"""A branch's whole life on a real stack: pushed, seen at its own address, deleted, and gone without a trace."""

import os
import signal
from typing import Any

import httpx

from client.client import DeploymentsClient
from domain.deployment import Deployment
from domain.project import UpdateProjectRequest
from domain.states import Status
from tests.end_to_end.conftest import MakeProject
from tests.end_to_end.test_main_job import BUILD, SITE, Ask, end_of
from tests.providers.git_server import GitServer, Repository
from tests.providers.signing import ZEROS, encoded, github_push, signed
from tests.servers import eventually
from tests.test_stack import Up

SECRET = "the secret of this project's hook"


async def push(local: Up, project: str, before: str, after: str) -> None:
    body = encoded(github_push(before, after, ref="refs/heads/feature/x"))
    async with httpx.AsyncClient(base_url=local.said["apiUrl"]) as http:
        answer = await http.post(f"/v1/webhooks/github/{project}", content=body, headers=signed("github", body, SECRET))
    assert answer.status_code == 202, answer.text


async def test_a_branch_gets_a_site_and_both_are_gone_when_it_is_deleted(
    local: Up, client: DeploymentsClient, make_project: MakeProject, git_server: GitServer, ask: Ask
) -> None:
    project = await make_project(SITE, **BUILD)
    said: Any = {"previews": {"refs": ["feature/*"]}, "configuration": {"secrets": {"GITHUB_WEBHOOK_SECRET": SECRET}}}
    await client.update_project(project, UpdateProjectRequest.model_validate(said))
    repository = Repository(git_server.root / project, git_server.url)
    repository.git("checkout", "--quiet", "-b", "feature/x")
    pushed = repository.commit({"src/index.html": "<h1>the branch</h1>"})
    await push(local, project, ZEROS, pushed)
    found: list[Deployment] = []

    async def triggered() -> bool:
        found[:] = (await client.list_deployments(project)).items
        return len(found) == 1

    await eventually(triggered)
    done = await end_of(client, found[0])
    assert done.status is Status.SUCCEEDED, done.error
    assert done.commit_sha == pushed
    hosts = [f"preview-feature-x.{project}.localhost", f"{done.id}.localhost"]
    assert [ask(host).text for host in hosts] == ["<h1>the branch</h1>"] * 2
    held = [path for path in local.data_dir.rglob(done.id) if path.is_dir()]
    assert {path.parent.name for path in held} == {"builds", "releases"}

    await push(local, project, pushed, ZEROS)
    os.kill(local.said["pids"]["worker"], signal.SIGKILL)

    async def all_gone() -> bool:
        names = [one.name for one in await client.list_environments(project)]
        return names == ["production"] and not any(path.exists() for path in held)

    await eventually(all_gone, 60)
    assert [ask(host).status_code for host in hosts] == [404, 404]
    kept = await client.get_deployment(done.id)
    assert kept is not None
    assert kept.status is Status.SUCCEEDED
    assert [line async for line in client.stream_logs(done.id, follow=False)]
