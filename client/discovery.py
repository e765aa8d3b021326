"""Where the service is: what the environment says, else the local stack of this directory or the nearest one above."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from domain.errors import DeploymentError, ErrorCode

LOCAL_STACK = Path(".headway") / "stack.json"


@dataclass(frozen=True)
class Service:
    url: str
    token: str = field(repr=False)


def find_service(environment: Mapping[str, str], start: Path) -> Service:
    """`HEADWAY_API_URL` and `HEADWAY_TOKEN`, else the nearest `.headway/stack.json` from `start` upwards.

    Raises:
        DeploymentError: unavailable, when there is neither; unauthenticated, when there is an address alone.
    """
    url, token = environment.get("HEADWAY_API_URL"), environment.get("HEADWAY_TOKEN")
    if url and token:
        return Service(url, token)
    if url:
        raise DeploymentError(ErrorCode.UNAUTHENTICATED, "HEADWAY_API_URL is set without HEADWAY_TOKEN: set both")
    path = nearest_stack(start)
    if path is None:
        raise DeploymentError(
            ErrorCode.UNAVAILABLE,
            f"no service found: HEADWAY_API_URL and HEADWAY_TOKEN are not set, and no local stack runs in {start} "
            "or above it; `headway up` starts one",
        )
    return read_stack(path)


def nearest_stack(start: Path) -> Path | None:
    candidates = (directory / LOCAL_STACK for directory in (start, *start.parents))
    return next((path for path in candidates if path.is_file()), None)


def read_stack(path: Path) -> Service:
    try:
        said = json.loads(path.read_text())
        return Service(said["apiUrl"], said["apiToken"])
    except (OSError, ValueError, KeyError) as error:
        raise DeploymentError(ErrorCode.UNAVAILABLE, f"{path} cannot be read as a local stack: {error}") from error
