"""Lanes, approvals and rollbacks on a real stack."""

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest

from client.client import DeploymentsClient
from domain.deployment import Deployment
from domain.states import Status
from providers.internal.builds import remove_tree
from tests.end_to_end.conftest import MakeProject
from tests.end_to_end.test_main_job import BUILD, Ask, end_of, is_building, slow
from tests.providers.git_server import GitServer, Repository
from tests.servers import eventually
from tests.test_stack import Up


class Person:
    """Somebody with a token, over plain HTTP."""

    def __init__(self, http: httpx.AsyncClient, token: str) -> None:
        self.http = http
        self.headers = {"Authorization": f"Bearer {token}"}

    async def __call__(self, method: str, path: str, status: int, body: Any = None) -> Any:
        answer = await self.http.request(method, path, json=body, headers=self.headers, timeout=30)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
async def root(local: Up) -> AsyncIterator[Person]:
    async with httpx.AsyncClient(base_url=local.said["apiUrl"]) as http:
        yield Person(http, local.said["apiToken"])


async def person(root: Person, subject: str, *scopes: str) -> Person:
    made = await root("POST", "/v1/tokens", 201, {"subject": subject, "scopes": scopes, "projects": ["*"]})
    return Person(root.http, made["token"])


async def read(client: DeploymentsClient, identity: str) -> Deployment:
    found = await client.get_deployment(identity)
    assert found is not None
    return found


async def test_a_line_is_served_in_order_and_one_at_a_time(
    client: DeploymentsClient, root: Person, make_project: MakeProject
) -> None:
    project = await make_project(slow(5), **BUILD)
    await root("PATCH", f"/v1/projects/{project}", 200, {"concurrency": "queue"})
    asked = {"projectId": project, "sourceRef": "main"}
    made = [await root("POST", "/v1/deployments", 202, asked) for _ in range(4)]
    assert [one["queuePosition"] for one in made] == [None, 1, 2, 3]
    done = [await end_of(client, Deployment.model_validate(one)) for one in made]
    assert {one.status for one in done} == {Status.SUCCEEDED}
    for earlier, later in pairwise(done):
        assert earlier.finished_at is not None
        assert later.started_at is not None
        assert earlier.finished_at <= later.started_at


async def test_what_is_older_does_not_go_out_over_what_is_newer(
    client: DeploymentsClient, local: Up, root: Person, make_project: MakeProject, ask: Ask
) -> None:
    script = "[ -z $SLOW ] || until [ -e go ]; do sleep 0.05; done; mkdir -p out; echo $TEXT > out/index.html"
    project = await make_project({"build.sh": script}, **BUILD)

    async def trigger(**variables: str) -> Deployment:
        configuration = {"environmentVariables": variables}
        asked = {"projectId": project, "sourceRef": "main", "concurrency": "parallel", "configuration": configuration}
        return Deployment.model_validate(await root("POST", "/v1/deployments", 202, asked))

    older = await trigger(TEXT="older", SLOW="yes")
    await is_building(client, older)
    newer = await end_of(client, await trigger(TEXT="newer"))
    assert newer.status is Status.SUCCEEDED
    (local.data_dir / "builds" / older.id / "workspace" / "go").touch()
    ended = await end_of(client, older)
    assert (ended.status, ended.superseded_by) == (Status.SUCCEEDED, newer.id)
    assert ask(f"production.{project}.localhost").text == "newer\n"
    own = f"{ended.id}.localhost"
    assert ended.deployment_url is not None
    assert own in ended.deployment_url
    assert ask(own).text == "older\n"


async def test_nothing_is_built_before_it_is_approved(
    client: DeploymentsClient, root: Person, make_project: MakeProject
) -> None:
    project = await make_project(slow(1), **BUILD)
    [environment] = (await root("GET", f"/v1/projects/{project}/environments", 200))["items"]
    path = f"/v1/environments/{environment['id']}"
    await root("PATCH", path, 200, {"protection": {"requiredApprovals": 1, "allowedRefs": ["main"]}})
    ada, bob = await person(root, "ada", "read", "deploy", "approve"), await person(root, "bob", "read", "approve")
    refused = await ada("POST", "/v1/deployments", 422, {"projectId": project, "sourceRef": "feature"})
    assert "accepted: main" in refused["detail"]
    made = await ada("POST", "/v1/deployments", 202, {"projectId": project, "sourceRef": "main"})

    async def pinned() -> bool:
        now = await read(client, made["id"])
        return now.status is Status.QUEUED and now.commit_sha is not None

    await eventually(pinned)
    own = f"/v1/deployments/{made['id']}"
    await ada("POST", f"{own}/approve", 403)
    await root("POST", f"{own}/retry", 409)
    approved = await bob("POST", f"{own}/approve", 200, {"comment": "seen"})
    assert approved["approvals"][0]["comment"] == "seen"
    done = await end_of(client, Deployment.model_validate(made))
    assert done.status is Status.SUCCEEDED
    again = await ada("POST", "/v1/deployments", 202, {"projectId": project, "sourceRef": "main"})
    await bob("POST", f"/v1/deployments/{again['id']}/reject", 200, {"comment": "not today"})
    rejected = await end_of(client, Deployment.model_validate(again))
    assert (rejected.status, rejected.build_id) == (Status.CANCELED, None)
    assert rejected.error is not None
    assert rejected.error.message == "rejected by bob: not today"


async def test_a_rollback_brings_the_site_of_then_back_without_a_build_unless_it_is_gone(
    client: DeploymentsClient, root: Person, make_project: MakeProject, local: Up, ask: Ask
) -> None:
    build = {"buildCommand": "mkdir -p out; echo $GREETING $KEY > out/index.html", "outputDirectory": "out"}
    project = await make_project({"a": ""}, **build)
    host = f"production.{project}.localhost"
    served = []
    made = []
    for number in (1, 2):
        variables = {"environmentVariables": {"GREETING": f"hello-{number}"}, "secrets": {"KEY": f"key-no-{number}"}}
        await root("PATCH", f"/v1/projects/{project}", 200, {"configuration": variables})
        asked = await root("POST", "/v1/deployments", 202, {"projectId": project, "sourceRef": "main"})
        made.append(await end_of(client, Deployment.model_validate(asked)))
        assert made[-1].status is Status.SUCCEEDED, made[-1].error
        served.append(ask(host).text)
    assert served == ["hello-1 key-no-1\n", "hello-2 key-no-2\n"]
    own = f"/v1/deployments/{made[1].id}"
    preview = await root("POST", f"{own}/rollback?dryRun=true", 200)
    assert (preview["target"]["id"], preview["heldRef"]) == (made[0].id, "main")
    assert ask(host).text == served[1]
    back = await root("POST", f"{own}/rollback", 202)
    assert (back["rollbackOf"], back["restores"]) == (made[1].id, made[0].id)
    done = await end_of(client, Deployment.model_validate(back))
    assert (done.status, done.artifact_id) == (Status.SUCCEEDED, made[0].artifact_id)
    assert ask(host).text == served[0]
    held = await root("POST", "/v1/deployments", 202, {"projectId": project, "sourceRef": "main"})
    assert held["waitingOn"] == "approval"
    forward = await root("POST", f"/v1/deployments/{back['id']}/rollback", 202)
    assert (await end_of(client, Deployment.model_validate(forward))).status is Status.SUCCEEDED
    assert ask(host).text == served[1]
    remove_tree(next(local.data_dir.rglob(f"releases/{made[0].id}")))  # as retention does
    asked = {"targetDeploymentId": made[0].id}
    again = await root("POST", f"/v1/deployments/{forward['id']}/rollback", 202, asked)
    done = await end_of(client, Deployment.model_validate(again))
    assert (done.status, done.artifact_id, done.build_id) == (Status.SUCCEEDED, made[0].artifact_id, done.id)
    assert ask(host).text == served[0]


async def test_a_site_that_is_not_well_gives_way_to_the_one_before_by_itself(
    client: DeploymentsClient, root: Person, make_project: MakeProject, git_server: GitServer, ask: Ask
) -> None:
    check = {"path": "/", "contains": "well", "timeoutSeconds": 1}
    build = {"buildCommand": "mkdir -p out; echo $SAYS > out/index.html", "outputDirectory": "out"}
    project = await make_project({"a": ""}, **build, healthCheck=check, rollbackOnFailure=True)
    host = f"production.{project}.localhost"

    async def deploy(says: str) -> Deployment:
        asked = {"projectId": project, "sourceRef": "main", "configuration": {"environmentVariables": {"SAYS": says}}}
        made = Deployment.model_validate(await root("POST", "/v1/deployments", 202, asked))
        return await end_of(client, made)

    good, bad = await deploy("all is well"), await deploy("broken")
    assert (good.status, bad.status) == (Status.SUCCEEDED, Status.FAILED)
    assert bad.error is not None
    assert (bad.error.code, bad.error.phase) == ("deployment/deploy-failed", "deploying")
    assert "status 200 without the text, wanted status 200-399 and a body with 'well'" in bad.error.message
    newest = (await root("GET", f"/v1/projects/{project}/deployments?limit=1", 200))["items"][0]
    assert (newest["rollbackOf"], newest["restores"], newest["triggeredBy"]) == (bad.id, good.id, "headway")
    back = await end_of(client, Deployment.model_validate(newest))
    assert (back.status, back.artifact_id) == (Status.SUCCEEDED, good.artifact_id)
    assert ask(host).text == "all is well\n"
    repository = Repository(git_server.root / project, git_server.url)
    repository.git("checkout", "--quiet", "-b", "came-of-it")
    repository.commit({"a": "mended"})
    repository.git("checkout", "--quiet", "--orphan", "apart")
    repository.commit({"a": "another"})
    asked = {"projectId": project, "concurrency": "parallel", "configuration": {"healthCheck": None}}
    waiting = {ref: await root("POST", "/v1/deployments", 202, {**asked, "sourceRef": ref}) for ref in _HELD}
    apart = await root("POST", "/v1/deployments", 202, {**asked, "sourceRef": "apart"})

    async def told() -> bool:
        return {ref: (await read(client, made["id"])).waiting_reason for ref, made in waiting.items()} == {
            ref: f"{reason.format(bad.commit_sha)}; 0 of 1 approvals" for ref, reason in _HELD.items()
        }

    await eventually(told)
    assert (await end_of(client, Deployment.model_validate(apart))).status is Status.SUCCEEDED


_HELD = {
    "main": "main was rolled back here and is held",
    "came-of-it": "its history has {0:.12}, which was rolled back here, as main",
}
