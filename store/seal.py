"""Sealing of secrets at rest: AES-256-GCM, under a ring of keys or under a project's data key.

Layout of a sealed value: 1 byte length of the ring key's id, the id, 12 bytes nonce, ciphertext with its tag. A length
of 0 says that a data key has sealed it. The id and the caller's `purpose` are authenticated: a value cannot be moved to
another place.

Rule: the first key of the ring seals, every key opens.
"""

import base64
import secrets
from collections import OrderedDict
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.errors import DeploymentError, ErrorCode

BY_DATA_KEY = b"\x00"
_NONCE = 12
_REMEMBERED = 1000


class CannotOpen(DeploymentError):
    """No key that is here opens it, or it was altered or moved. What is mended outside: it is tried again."""

    def __init__(self, purpose: str, why: str) -> None:
        super().__init__(ErrorCode.INTERNAL, f"a stored secret cannot be opened ({purpose}): {why}")


class Seals(Protocol):
    def seal(self, text: bytes, purpose: str) -> bytes: ...

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """Raises CannotOpen."""


class Sealer:
    """The ring. It also remembers the data keys that it has opened lately, by project."""

    def __init__(self, keys: str) -> None:
        """`keys` is `id:base64` of 32 bytes, comma-separated.

        Raises:
            ValueError: a key that cannot be read.
        """
        self._keys = dict(_parse(entry) for entry in keys.split(","))
        self.key_id = next(iter(self._keys))
        self.ids = frozenset(self._keys)
        self._data_keys: OrderedDict[str, AESGCM] = OrderedDict()

    def seal(self, text: bytes, purpose: str) -> bytes:
        name = self.key_id.encode()
        return _seal(self._keys[self.key_id], bytes([len(name)]) + name, name, text, purpose)

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """Raises CannotOpen."""
        end = 1 + int.from_bytes(sealed[:1])
        name = sealed[1:end]
        key_id = name.decode(errors="replace")
        if key_id not in self._keys:
            raise CannotOpen(purpose, f"the key ring lacks key {key_id!r}; put it back into HEADWAY_SECRET_KEYS")
        return _open(self._keys[key_id], sealed[end:], name, purpose)

    def remember(self, project_id: str, key: AESGCM) -> None:
        self._data_keys[project_id] = key
        if len(self._data_keys) > _REMEMBERED:
            self._data_keys.popitem(last=False)

    def remembered(self, project_id: str) -> AESGCM | None:
        if project_id in self._data_keys:
            self._data_keys.move_to_end(project_id)
        return self._data_keys.get(project_id)


class ProjectSealer:
    """Seals under the data key of a project. Opens that, and what the ring has sealed before there were data keys."""

    def __init__(self, ring: Sealer, key: AESGCM | None) -> None:
        """`key` is None where the project has none yet: then nothing can have been sealed under it."""
        self._ring = ring
        self._key = key

    def seal(self, text: bytes, purpose: str) -> bytes:
        if self._key is None:
            raise LookupError(f"there is no data key for {purpose}")
        return _seal(self._key, BY_DATA_KEY, BY_DATA_KEY, text, purpose)

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """Raises CannotOpen."""
        if sealed.startswith(BY_DATA_KEY):
            if self._key is None:
                raise CannotOpen(purpose, "its project has no data key")
            return _open(self._key, sealed[1:], BY_DATA_KEY, purpose)
        return self._ring.open(sealed, purpose)


def _seal(key: AESGCM, head: bytes, name: bytes, text: bytes, purpose: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    return head + nonce + key.encrypt(nonce, text, name + purpose.encode())


def _open(key: AESGCM, sealed: bytes, name: bytes, purpose: str) -> bytes:
    try:
        if len(sealed) > _NONCE:
            return key.decrypt(sealed[:_NONCE], sealed[_NONCE:], name + purpose.encode())
    except InvalidTag:
        pass
    by = "its project's data key" if name == BY_DATA_KEY else f"the key {name.decode()!r} of HEADWAY_SECRET_KEYS"
    raise CannotOpen(purpose, f"it is not what {by} has sealed: that is another key, or the value was altered")


def _parse(entry: str) -> tuple[str, AESGCM]:
    name, _, text = entry.strip().partition(":")
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if not name or len(name.encode()) > 64 or len(key) != 32:
        raise ValueError("expected id:base64 of 32 bytes, comma-separated")
    return name, AESGCM(key)
