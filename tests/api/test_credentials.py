"""Credentials in the address of a repository: they become a secret, and the address is shown without them."""

from datetime import timedelta

from store.database import Database
from store.progress import ProgressStore
from store.seal import Sealer
from tests.api.conftest import PROJECT, Api


async def test_credentials_of_the_repository_become_its_secret(api: Api, database: Database, sealer: Sealer) -> None:
    address = "https://ada:s3cret%21word@git.example.org/a/b"
    made = await api.make("/v1/projects", {**PROJECT, "repositoryUrl": address})
    changed = (await api("PATCH", "/v1/projects/site", {"repositoryUrl": address.replace("/b", "/c")})).json()

    for project, path in ((made, "a/b"), (changed, "a/c")):
        assert project["repositoryUrl"] == f"https://git.example.org/{path}"
        assert set(project["configuration"]["secrets"]) == {"GIT_TOKEN"}
    deployment = await api.make("/v1/deployments", {"projectId": "site", "sourceRef": "main"})
    request = await ProgressStore(database, sealer).build_request(deployment["id"], timedelta())
    assert request.secrets == {"GIT_TOKEN": "ada:s3cret!word"}
    assert "s3cret" not in str([made, changed, deployment])
