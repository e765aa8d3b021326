"""Versions of secrets: each new value of a name is counted, on the project or environment where it is set."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from domain.wire import Timestamp, Wire

Scope = Literal["project", "base", "environment", "request"]


class SecretVersion(Wire):
    version: int = Field(description="counts the values that the name has had here")
    updated_at: Timestamp | None = Field(default=None, description="null: it was set before versions were counted")
    updated_by: str | None = None


class CountedSecret(SecretVersion):
    """As it is stored: a name that was unset is remembered, so that it goes on counting when it is set again."""

    unset: bool = False


class SecretUse(Wire):
    """Which value of a secret a deployment runs with."""

    scope: Scope = Field(description="where it was set")
    version: int | None = Field(default=None, description="null: it came with the request, where nothing is counted")


class SecretKey(Wire):
    """A key of HEADWAY_SECRET_KEYS, by its id; the key itself is never shown."""

    id: str
    seals: bool = Field(description="whether it is the first one here, which seals")
    known: bool = Field(description="whether this process has it")
    values: int = Field(description="how many values it has sealed that are still there")


class SecretKeys(Wire):
    keys: list[SecretKey]
    left: int = Field(description="how many values are still to be sealed anew")


Counts = Mapping[str, CountedSecret]


def read_counts(stored: Mapping[str, Any], names: Iterable[str]) -> dict[str, CountedSecret]:
    """`names` are those of secrets that are there; one that was set before versions were counted is the first."""
    return {name: CountedSecret(version=1) for name in names} | {
        name: CountedSecret.model_validate(count) for name, count in stored.items()
    }


def count(
    counts: Counts, before: Mapping[str, str], after: Mapping[str, str], by: str, at: datetime
) -> dict[str, CountedSecret]:
    """`counts` after the secrets have changed. The same value again is no new version."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return {**counts, **{name: _next(counts.get(name), by, at, unset=name not in after) for name in changed}}


def versions(counts: Counts) -> dict[str, SecretVersion]:
    """Of what is set."""
    return {name: SecretVersion(**dict(one)) for name, one in sorted(counts.items()) if not one.unset}


def uses(scope: Scope, counts: Counts) -> dict[str, SecretUse]:
    return {name: SecretUse(scope=scope, version=one.version) for name, one in versions(counts).items()}


def document(models: Mapping[str, Wire]) -> dict[str, Any]:
    """As it is stored and sent."""
    return {name: one.model_dump(mode="json", by_alias=True) for name, one in models.items()}


def _next(count: CountedSecret | None, by: str, at: datetime, *, unset: bool) -> CountedSecret:
    version = count.version if count else 0
    return CountedSecret(version=version if unset else version + 1, updated_at=at, updated_by=by, unset=unset)
