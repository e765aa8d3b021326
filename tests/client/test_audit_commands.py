"""The commands about the audit and about tokens."""

import json

import psycopg

from client.client import DeploymentsClient
from domain.project import Project
from tests.client.commands import Headway
from tests.client.conftest import Service


async def test_the_audit_is_listed_filtered_exported_and_verified(
    headway: Headway, site: Project, database_url: str
) -> None:
    shown = await headway("audit", "--project", "site")
    assert [name in shown.output for name in ("project.create", "environment.create", "operator")] == [True] * 3
    found = await headway("audit", "--action", "project.create", "--since", "2020-01-01T00:00:00Z", "--json")
    assert [one["target"] for one in found.document["items"]] == ["site"]
    assert (await headway("audit", "--actor", "nobody", "--json")).document["items"] == []
    exported = await headway("audit", "--export")
    told = [json.loads(line)["action"] for line in exported.output.splitlines()]
    assert told == ["token.create", "project.create", "environment.create"]
    kept = (await headway("audit", "verify")).output.split()
    assert [anchor.split(":")[:2] for anchor in kept] == [["-", "1"], ["site", "2"]]
    anchors = [word for anchor in kept for word in ("--anchor", anchor)]
    assert (await headway("audit", "verify", *anchors)).code == 0
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute("alter table audit disable trigger all")
        await connection.execute("delete from audit where project_id = 'site' and sequence = 2")
    ended = await headway("audit", "verify", "--project", "site", *anchors)
    assert (ended.code, "site:1: the chain ends here, and was written up to 2" in ended.errors) == (1, True)
    assert (await headway("audit", "verify", "--json")).document["valid"] is False
    assert (await headway("audit", "--since", "yesterday")).code == 2
    missing = await headway("audit", "--project", "missing")
    assert (missing.code, len(missing.errors.splitlines())) == (1, 1)


async def test_a_token_is_shown_once_used_listed_and_revoked(
    headway: Headway, service: Service, client: DeploymentsClient, site: Project
) -> None:
    ends = ("--expires", "2100-01-01T00:00:00Z")
    made = await headway("tokens", "create", "ci", "--scope", "read", "--scope", "deploy", "--project", "site", *ends)
    text = made.output.strip()
    assert (made.code, made.output) == (0, f"{text}\n")
    assert text not in made.errors
    async with DeploymentsClient(service.url, text) as own:
        assert await own.get_project("site") is not None
    listed = await headway("tokens", "list", "--json")
    token = next(one for one in listed.document["items"] if one["subject"] == "ci")
    assert (token["scopes"], token["projects"], token["expiresAt"]) == (
        ["deploy", "read"],
        ["site"],
        "2100-01-01T00:00:00.000Z",
    )
    assert text not in listed.output
    assert token["id"] in (await headway("tokens", "list")).output
    assert (await headway("tokens", "revoke", token["id"])).code == 0
    assert (await headway("tokens", "revoke", token["id"])).code == 1
    assert (await headway("tokens", "create", "ci", "--scope", "everything")).code == 2
