"""What is removed, and what is kept whatever its age."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from providers.base import BuildRequest
from providers.internal.builds import BuildDirectory, BuildState
from providers.internal.limits import Limits, Retention
from providers.internal.provider import Internal
from providers.internal.releases import Release
from providers.internal.retention import clean_builds, clean_caches, clean_leftovers, releases_to_remove
from providers.internal.sites import Site
from tests.providers.conftest import ANY_REQUEST, MakeInternal, build_request

NOW = datetime.now(UTC)


def release(number: int, days: float = 0, environment: str = "production") -> Release:
    """The higher its number, the older."""
    made = NOW - timedelta(days=days, minutes=number)
    return Release(
        deployment_id=f"d{number}",
        project_id="shop",
        environment=environment,
        created_at=made,
        files=1,
        bytes=1,
        digest="sha256:0",
    )


def site(deployment_id: str, kind: str = "production") -> Site:
    return Site.model_validate(
        {"host": "x.localhost", "kind": kind, "deployment_id": deployment_id, "project_id": "shop", "environment": "x"}
    )


def removed(releases: list[Release], sites: list[Site], **keep: int) -> list[str]:
    return sorted(r.deployment_id for r in releases_to_remove(releases, sites, Retention(**keep), NOW))


def test_the_newest_of_each_environment_are_kept() -> None:
    releases = [release(n) for n in range(4)] + [release(n + 10, environment="staging") for n in range(3)]

    assert removed(releases, [], keep_releases=2) == ["d12", "d2", "d3"]


def test_what_production_points_to_is_kept_at_any_age() -> None:
    releases = [release(1), release(2, days=400)]

    assert removed(releases, [site("d2")], keep_releases=1) == []
    assert removed(releases, [site("d2", "preview")], keep_releases=1) == ["d2"]


def test_old_releases_go_though_they_are_few() -> None:
    assert removed([release(1), release(2, days=31)], [], keep_days=30) == ["d2"]


def age(path: Path, hours: float) -> None:
    then = time.time() - hours * 3600
    os.utime(path, (then, then))


def made_build(builds: Path, stage: str, hours: float) -> BuildDirectory:
    request = build_request("http://x.example/y")
    build = BuildDirectory(builds / request.deployment_id)
    build.create(request)
    build.write_state(BuildState.model_validate({"stage": stage, "pid": 0, "started_at": NOW}))
    build.workspace.mkdir()
    age(build.state_file, hours)
    age(build.spec, hours)
    return build


def test_workspaces_go_first_and_builds_later(tmp_path: Path) -> None:
    failed, older, oldest = (made_build(tmp_path, "failed", hours) for hours in (1, 10, 100))
    well = made_build(tmp_path, "built", 1)

    clean_builds(tmp_path, Retention(keep_workspaces_hours=6, keep_builds_hours=72), NOW)

    assert [b.workspace.exists() for b in (failed, older, oldest, well)] == [True, False, False, False]
    assert [b.path.exists() for b in (failed, older, oldest, well)] == [True, True, False, True]


def test_a_build_that_runs_is_left_alone(tmp_path: Path) -> None:
    running = made_build(tmp_path, "building", 1000)

    with running.lock() as held:
        assert held
        clean_builds(tmp_path, Retention(), NOW)

    assert running.workspace.exists()


def test_leftovers_of_deaths_go_after_a_day(tmp_path: Path) -> None:
    for name in (".new-a", ".old-b", "kept"):
        (tmp_path / name).mkdir()
    (tmp_path / ".new-fresh").mkdir()
    for name in (".new-a", ".old-b", "kept"):
        age(tmp_path / name, 30)

    clean_leftovers(tmp_path, NOW)

    assert sorted(path.name for path in tmp_path.iterdir()) == [".new-fresh", "kept"]


def test_caches_go_when_idle_or_too_large(tmp_path: Path) -> None:
    for name in ("idle", "large", "kept"):
        (tmp_path / name).mkdir()
    (tmp_path / "large" / "x").write_bytes(bytes(2000))
    age(tmp_path / "idle", 24 * 31)

    clean_caches(tmp_path, Retention(cache_bytes=1000), NOW)

    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


async def test_a_release_goes_with_its_preview_and_production_stays(make_internal: MakeInternal) -> None:
    internal = make_internal(keep=Retention(keep_releases=1))
    requests = [build_request("http://x.example/y") for _ in range(2)]
    for request in requests:
        await _publish(internal, request)

    await internal.clean_up()

    assert [internal.releases.get(r.deployment_id) is not None for r in requests] == [False, True]
    assert sorted(site.deployment_id for site in internal.sites.all()) == [requests[1].deployment_id] * 2
    assert not await internal.restore_sites()


async def test_cleaning_an_empty_directory_is_fine(make_internal: MakeInternal) -> None:
    await make_internal().clean_up()


async def _publish(internal: Internal, request: BuildRequest) -> None:
    output = internal.root / "output"
    output.mkdir(parents=True, exist_ok=True)
    (output / "index.html").write_text("hello")
    internal.releases.add(request, output, Limits(), lambda: None)
    await internal.publish_build(ANY_REQUEST, internal._build(request))
