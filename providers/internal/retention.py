"""Removes what is no longer kept: old releases with their previews, ended builds, workspaces, idle caches.

Rule: what a production host points to and what still runs is never touched, whatever its age.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from providers.internal.builds import age_seconds, all_builds, remove_tree
from providers.internal.limits import Retention
from providers.internal.releases import Release
from providers.internal.sites import Site
from providers.internal.steps import disk_usage

_HOUR = 3600
_DAY = 24 * _HOUR


def releases_to_remove(
    releases: Iterable[Release], sites: Iterable[Site], keep: Retention, now: datetime
) -> list[Release]:
    """Those beyond the number kept for their environment, or too old; not those that are in production."""
    held = {site.deployment_id for site in sites if site.kind == "production"}
    lanes: dict[tuple[str, str], list[Release]] = defaultdict(list)
    for release in releases:
        lanes[release.project_id, release.environment].append(release)
    oldest = now - timedelta(days=keep.keep_days)
    going = []
    for lane in lanes.values():
        lane.sort(key=lambda release: release.created_at, reverse=True)
        going += [r for n, r in enumerate(lane) if n >= keep.keep_releases or r.created_at < oldest]
    return [release for release in going if release.deployment_id not in held]


def clean_builds(builds: Path, keep: Retention, now: datetime) -> None:
    """Of builds that ended: first their workspaces go, later the rest. What was never begun goes too."""
    for build in all_builds(builds):
        with build.lock() as ours:
            if not ours:
                continue
            state = build.state()
            hours = age_seconds(build.spec if state is None else build.state_file, now) / _HOUR
            if hours >= keep.keep_builds_hours:
                remove_tree(build.path)
            elif state is not None and state.ended and (state.stage == "built" or hours >= keep.keep_workspaces_hours):
                for directory in build.scratch:
                    remove_tree(directory)


def clean_leftovers(directory: Path, now: datetime) -> None:
    """What a death in the middle of making or removing something left, a day later."""
    for path in directory.glob(".[no]*-*"):
        if age_seconds(path, now) >= _DAY:
            remove_tree(path)


def clean_caches(caches: Path, keep: Retention, now: datetime) -> None:
    for path in _visible(caches):
        if age_seconds(path, now) >= keep.keep_caches_days * _DAY or disk_usage(path) > keep.cache_bytes:
            remove_tree(path)


def now_utc() -> datetime:
    return datetime.now(UTC)


def _visible(directory: Path) -> list[Path]:
    return sorted(directory.glob("[!.]*")) if directory.exists() else []
