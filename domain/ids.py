"""Ids of deployments and environments: UUIDv7 (RFC 9562 §5.7), so that they sort by time of creation."""

import secrets
import time
from datetime import UTC, datetime
from uuid import UUID


def uuid7() -> UUID:
    """48 bits of Unix milliseconds, then 74 random bits around version and variant."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def made_at(deployment_id: str) -> datetime:
    """When it was asked for, which its id says; of an id that is not one of ours, long ago."""
    try:
        uuid = UUID(deployment_id)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return datetime.fromtimestamp((uuid.int >> 80) / 1000 if uuid.version == 7 else 0, UTC)
