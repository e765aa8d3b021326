"""An OpenID Connect issuer for tests: a real HTTP server on loopback that does whatever a test wants of it."""

import asyncio
import contextlib
import functools
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

CONFIGURATION = "/.well-known/openid-configuration"
KEYS = "/keys"
AUDIENCE = "headway"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


@functools.cache
def private_key(algorithm: str, number: int = 0) -> PrivateKey:
    """The same one for the whole run: RSA keys take their time."""
    del number
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return (
        ec.generate_private_key(_CURVES[algorithm]) if algorithm in _CURVES else rsa.generate_private_key(65537, 2048)
    )


def published(key: PrivateKey, algorithm: str, **members: Any) -> dict[str, Any]:
    """The public half, as a member of a key set."""
    kind = jwt.get_algorithm_by_name(algorithm)
    return {**json.loads(kind.to_jwk(key.public_key())), "alg": algorithm, "use": "sig", **members}


class Issuer:
    """`asked` are the paths that were asked for; `answers` are given instead of what an issuer should say."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, Any]] = {}
        self.algorithm = "ES256"
        self.keys: dict[str, PrivateKey] = {"first": private_key("ES256")}
        self.members: dict[str, Any] = {}
        self.port = 0
        self._server: asyncio.Server | None = None
        self._silent: asyncio.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def trusted(self, *rules: dict[str, Any]) -> dict[str, Any]:
        """What an operator writes to trust it; for everybody, unless there are rules."""
        everybody = {"claims": {"sub": "*"}, "scopes": ["read"], "projects": ["*"]}
        return {"issuer": self.url, "audience": AUDIENCE, "rules": list(rules) or [everybody]}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a good token; one that is changed to None is left out."""
        now = int(time.time())
        good = {"iss": self.url, "aud": AUDIENCE, "sub": "someone", "iat": now, "exp": now + 300, **changes}
        return {name: value for name, value in good.items() if value is not None}

    def token(self, *, kid: str = "first", **claims: Any) -> str:
        return jwt.encode(self.claims(**claims), self.keys[kid], self.algorithm, {"kid": kid})

    def rotate(self, kid: str) -> None:
        """Signs with a new key from now on, and publishes that one alone."""
        self.keys = {kid: private_key(self.algorithm, len(self.keys) + hash(kid))}

    def silence(self) -> None:
        """Takes connections and says nothing, until `speak`."""
        self._silent = asyncio.Event()

    def speak(self) -> None:
        assert self._silent is not None
        self._silent.set()
        self._silent = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Its port refuses connections afterwards."""
        if self._silent is not None:
            self.speak()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            self.asked.append(path)
            if self._silent is not None:
                await self._silent.wait()
            status, said = self.answers.get(path) or self.usual(path)
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            location = b"Location: /elsewhere\r\n" if 300 <= status < 400 else b""
            writer.write(
                b"HTTP/1.1 %d X\r\n%sConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, location, len(body))
            )
            writer.write(body)
            await writer.drain()
        writer.close()

    def usual(self, path: str) -> tuple[int, Any]:
        known = {
            CONFIGURATION: {"issuer": self.url, "jwks_uri": self.url + KEYS},
            KEYS: {"keys": [published(key, self.algorithm, kid=kid, **self.members) for kid, key in self.keys.items()]},
        }
        return (200, known[path]) if path in known else (404, {})


@contextlib.asynccontextmanager
async def running_issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    await issuer.start()
    try:
        yield issuer
    finally:
        await issuer.stop()
