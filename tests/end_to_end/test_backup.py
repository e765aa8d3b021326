"""A backup of a stack at work, restored elsewhere with nothing of Temporal: everything accepted comes to its end."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.providers.git_server import GitServer
from tests.servers import eventually
from tests.test_stack import ROOT, Up, up

BUILD = {"buildCommand": "mkdir -p out; cp page out/index.html", "outputDirectory": "out"}
ENDED = {"succeeded", "failed", "canceled", "timeout"}


class Api:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = await self._http.request(method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    async def trigger(self, environment: str, **more: Any) -> str:
        asked = {"projectId": "site", "sourceRef": "main", "environmentId": environment, **more}
        made: str = (await self("POST", "/v1/deployments", asked))["id"]
        return made

    async def reaches(self, deployment: str, *statuses: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def there() -> bool:
            found.update(await self("GET", f"/v1/deployments/{deployment}"))
            return found["status"] in statuses

        await eventually(there, 60)
        return found


@asynccontextmanager
async def api_of(local: Up) -> AsyncIterator[Api]:
    token = {"Authorization": f"Bearer {local.said['apiToken']}"}
    async with httpx.AsyncClient(base_url=local.said["apiUrl"], headers=token, timeout=30) as http:
        yield Api(http)


async def test_what_was_accepted_before_a_backup_ends_after_its_restore(tmp_path: Path, git_server: GitServer) -> None:
    repository = git_server.repository("backed-up", {"page": "one"})
    with up(tmp_path / "data") as before:
        async with api_of(before) as api:
            project = {"id": "site", "provider": "internal", "repositoryUrl": repository.url, "configuration": BUILD}
            await api("POST", "/v1/projects", project | {"concurrency": "queue"})
            [first] = (await api("GET", "/v1/projects/site/environments"))["items"]
            rules = {"name": "careful", "protection": {"requiredApprovals": 1, "allowSelfApproval": True}}
            careful = await api("POST", "/v1/projects/site/environments", rules)
            live = await api.trigger(first["id"])
            await api.reaches(live, "succeeded")
            building = await api.trigger(first["id"], configuration={"buildCommand": "echo begun; sleep 600"})
            await api.reaches(building, "building")
            queued = await api.trigger(first["id"])
            waiting = await api.trigger(careful["id"])
            await api.reaches(waiting, "queued")
            headway("backup", str(tmp_path / "copy"), "--data-dir", str(tmp_path / "data"))
            before.process.kill()
            before.process.wait()
    headway("restore", str(tmp_path / "copy"), "--data-dir", str(tmp_path / "again"))
    with up(tmp_path / "again") as after:
        async with api_of(after) as api:
            cut_off = await api.reaches(building, *ENDED)
            assert (cut_off["status"], cut_off["error"]["retryable"]) == ("failed", True)
            assert (await api.reaches(queued, *ENDED))["status"] == "succeeded"
            await api("POST", f"/v1/deployments/{waiting}/approve")
            assert (await api.reaches(waiting, *ENDED))["status"] == "succeeded"
            assert (await api("GET", f"/v1/deployments/{live}/logs"))["items"]
            port = after.said["edgeUrl"].rsplit(":", 1)[1]
            site = {"Host": f"production.site.localhost:{port}"}
            assert httpx.get(f"http://127.0.0.1:{port}/", headers=site).text == "one"


def test_what_is_no_backup_and_what_is_there_already_are_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    assert "no stack runs in" in headway("backup", str(tmp_path / "copy"), "--data-dir", str(tmp_path), code=1)
    assert "is no backup" in headway("restore", str(tmp_path), "--data-dir", str(tmp_path / "new"), code=1)
    (tmp_path / "database.dump").touch()
    assert "is there already" in headway("restore", str(tmp_path), "--data-dir", str(tmp_path / "there"), code=1)


def headway(*argv: str, code: int = 0) -> str:
    """What it says on standard error."""
    ran = subprocess.run(
        [sys.executable, "-m", "cli", *argv], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == code, ran.stderr
    return " ".join(ran.stderr.split())
