"""Previews: an environment for each branch. Which branches, for how long, and how their environments are called."""

import hashlib
import re
from typing import Annotated

from pydantic import Field, StringConstraints

from domain.wire import Request

DEFAULT_TTL_SECONDS = 7 * 24 * 3600
_LONGEST = 40
_DIGEST = 8

EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""A DNS label: it is part of the site's host name."""
BranchPattern = Annotated[
    str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x20\x7f~^:?\[\]\\]+$")
]
"""The name of a branch, in which `*` stands for any characters."""


class Previews(Request):
    refs: list[BranchPattern] = Field(min_length=1, max_length=20, description="branches that get an environment")
    ttl_seconds: int = Field(
        default=DEFAULT_TTL_SECONDS,
        ge=60,
        le=366 * 24 * 3600,
        description="how long an environment stays after its last deployment was triggered",
    )
    maximum: int = Field(default=50, ge=1, le=1000, description="one more makes the one end that is idle the longest")
    base: EnvironmentName | None = Field(
        default=None, description="the environment whose configuration, secrets and rules they begin with"
    )


def preview_names(branch: str) -> tuple[str, str]:
    """How the environment of a branch is called, and how when another one has that name: labels of a host."""
    slug = re.sub(r"[^a-z0-9]+", "-", branch.lower()).strip("-")
    digest = hashlib.sha256(branch.encode()).hexdigest()[:_DIGEST]
    distinct = f"{slug[: _LONGEST - _DIGEST - 1].rstrip('-')}-{digest}".lstrip("-")
    return f"preview-{slug if 0 < len(slug) <= _LONGEST else distinct}", f"preview-{distinct}"
