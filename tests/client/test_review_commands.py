"""The commands of those who approve, reject, roll back, protect environments and set secrets."""

import re
from pathlib import Path

import pytest

from client.client import DeploymentsClient
from domain.project import Project
from domain.states import Status
from tests.client.commands import Headway, end, started
from tests.client.conftest import Service


async def test_an_environment_is_protected_a_deployment_approved_and_another_rejected(
    headway: Headway, site: Project
) -> None:
    freeze = '{"start": "0 0 1 1 *", "duration": 60, "reason": "new year"}'
    rules = ("--approvals", "1", "--self-approval", "--allow-ref", "main", "--freeze", freeze)
    protected = await headway("env", "protect", "production", "-p", "site", *rules, "--json")
    assert protected.document["protection"]["freezeWindows"][0]["reason"] == "new year"
    first, second = [(await headway("deploy", "-p", "site", "-r", "main")).output.strip() for _ in range(2)]
    assert (await headway("approve", first, "-m", "seen")).output == "it may go\n"
    assert (await headway("reject", second, "-m", "no", "--json")).document["approvals"][0]["decision"] == "reject"
    again = await headway("approve", first)
    assert (again.code, len(again.errors.splitlines())) == (1, 1)
    refused = await headway("deploy", "-p", "site", "-r", "feature")
    assert "accepted: main" in refused.errors
    glass = await headway("deploy", "-p", "site", "-r", "feature", "--break-glass", "fire", "--force", "--json")
    assert glass.document["breakGlass"] == "fire"


async def test_a_rollback_is_previewed_made_and_its_hold_lifted(
    headway: Headway, service: Service, client: DeploymentsClient, site: Project
) -> None:
    made = []
    for _ in range(2):
        made.append((await headway("deploy", "-p", "site", "-r", "main")).output.strip())
        found = await client.get_deployment(made[-1])
        assert found is not None
        await service.end(found, Status.SUCCEEDED)
    preview = await headway("rollback", made[1], "--dry-run")
    assert f"back to {made[0]}" in preview.output
    back = await headway("rollback", made[1], "--to", made[0], "--json")
    assert (back.document["rollbackOf"], back.document["restores"]) == (made[1], made[0])
    assert [one.held_ref for one in await client.list_environments("site")] == ["main"]
    assert (await headway("env", "release", "production", "-p", "site", "--json")).document["heldRef"] is None
    assert (await headway("env", "release", "staging", "-p", "site")).code == 1


@pytest.mark.usefixtures("site")
async def test_a_secret_comes_from_standard_input_or_a_file_and_is_never_shown(
    headway: Headway, service: Service, tmp_path: Path
) -> None:
    file = tmp_path / "value"
    file.write_text("second-secret\n")
    process = await started("secrets", "set", "-p", "site", "FIRST", directory=tmp_path, **service.known)
    ended = await end(process, b"first-secret\n")
    assert (ended.code, ended.output) == (0, "")
    assert (await headway("secrets", "set", "-p", "site", "-e", "production", "SECOND", "--file", str(file))).code == 0
    listed = (await headway("secrets", "list", "-p", "site")).output
    assert re.search(r"^FIRST +v1 +20.+ +operator *$", listed, re.MULTILINE)
    versions = (await headway("secrets", "list", "-p", "site", "-e", "production", "--json")).document
    assert {name: (one["version"], one["updatedBy"]) for name, one in versions.items()} == {"SECOND": (1, "operator")}
    shown = await headway("project", "show", "site", "--json")
    assert "first-secret" not in shown.output
    assert (await headway("secrets", "unset", "-p", "site", "FIRST")).code == 0
    assert (await headway("secrets", "list", "-p", "site")).output == ""
    missing = await headway("secrets", "set", "-p", "site", "X", "--file", str(tmp_path / "no-such-file"))
    assert (missing.code, len(missing.errors.splitlines())) == (1, 1)


@pytest.mark.usefixtures("site")
async def test_what_is_wrong_with_a_secret_is_said_without_its_value(
    headway: Headway, service: Service, tmp_path: Path
) -> None:
    file = tmp_path / "value"
    for name, value in (("KEY", "a-secret" * 10_000), ("KEY", "a-secret\0"), ("NOT A NAME", "a-secret")):
        file.write_text(value)
        refused = await headway("secrets", "set", "-p", "site", name, "--file", str(file))
        assert refused.code != 0
        assert name in refused.errors
        assert "a-secret" not in refused.errors + refused.output


@pytest.mark.usefixtures("site")
async def test_operators_see_which_key_seals_how_many_values(headway: Headway) -> None:
    assert re.search(r"^test +\d+ +seals *$", (await headway("secrets", "keys")).output, re.MULTILINE)
    found = (await headway("secrets", "keys", "--json")).document
    assert (found["left"], [key["id"] for key in found["keys"]]) == (0, ["test"])
