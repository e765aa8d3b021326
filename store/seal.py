"""Sealing of secrets at rest: AES-256-GCM under a ring of keys. The first key seals, every key opens.

Layout of a sealed value: 1 byte length of the key's id, the id, 12 bytes nonce, ciphertext with its tag. The key's id
and the caller's `purpose` are authenticated: a value cannot be moved to another place.
"""

import base64
import binascii
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12


class CannotOpen(ValueError):
    """No key of the ring opens it, or it was altered or moved."""


class Sealer:
    def __init__(self, keys: str) -> None:
        """`keys` is `id:base64` of 32 bytes, comma-separated.

        Raises:
            ValueError: a key that cannot be read.
        """
        self._keys = dict(_parse(entry) for entry in keys.split(","))
        self._sealing = next(iter(self._keys))

    @property
    def key_id(self) -> str:
        """Of the key that seals."""
        return self._sealing

    def seal(self, text: bytes, purpose: str) -> bytes:
        name = self._sealing.encode()
        nonce = secrets.token_bytes(_NONCE)
        return (
            bytes([len(name)]) + name + nonce + self._keys[self._sealing].encrypt(nonce, text, name + purpose.encode())
        )

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """Raises CannotOpen."""
        try:
            end = 1 + sealed[0]
            name, nonce, text = sealed[1:end], sealed[end : end + _NONCE], sealed[end + _NONCE :]
            return self._keys[name.decode()].decrypt(nonce, text, name + purpose.encode())
        except (LookupError, ValueError, InvalidTag) as error:
            raise CannotOpen(f"a secret of {purpose} cannot be opened with the keys in HEADWAY_SECRET_KEYS") from error


def _parse(entry: str) -> tuple[str, AESGCM]:
    name, _, text = entry.strip().partition(":")
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if not name or len(name) > 64 or len(key) != 32:
        raise ValueError("HEADWAY_SECRET_KEYS: expected id:base64 of 32 bytes, comma-separated")
    return name, AESGCM(key)
