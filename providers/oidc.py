"""Tokens of OpenID Connect issuers, verified: the signature by the issuer's published keys, times, audience, subject.

Sources: OpenID Connect Discovery 1.0, section 4; RFC 7517 (keys); RFC 8725 (the mistakes that JWTs invite).

Rules:
1. Asymmetric algorithms alone, and a key is used with its own: a public key is never taken for a shared secret.
2. Nothing in a token says where keys are: they are those of an issuer that the operator named.
3. An issuer is asked once at a time, and not again within `PAUSE_SECONDS`, whatever callers send.
4. While it is away, keys that are known go on counting, for `HELD_SECONDS`.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jwt
import structlog
from pydantic import BaseModel, ValidationError

from domain.errors import DeploymentError, ErrorCode
from domain.oidc import TrustedIssuer
from domain.token import Token
from providers.http import Call, Http, Options, link

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"},
)
FRESH_SECONDS = 600.0
HELD_SECONDS = 86400.0
PAUSE_SECONDS = 10.0
LEEWAY_SECONDS = 60
_PATIENCE_SECONDS = 5.0
_MAX_BYTES = 256 * 1024
_REQUIRED = ["iss", "aud", "sub", "exp", "iat"]

# Not vital: how often an issuer that is away is asked is said here, by the pause, and not by a breaker as well.
_DISCOVERY = Call(
    "read its configuration", "GET", "/.well-known/openid-configuration", vital=False, max_bytes=_MAX_BYTES, seconds=3
)
_KEYS = Call("read its keys", "GET", "", vital=False, max_bytes=_MAX_BYTES, seconds=3)
_KEYS_OF_DIRECTORY = Call("read its keys", "GET", "/", vital=False, max_bytes=_MAX_BYTES, seconds=3)

_WHY: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidAudienceError: "it is meant for another audience",
    jwt.InvalidSignatureError: "its signature is not right",
    jwt.InvalidKeyError: "the key of its issuer is too short",
}

_log = structlog.get_logger()

Clock = Callable[[], float]
KeyName = tuple[str | None, str]
"""The key's id, and the algorithm."""


class _Configuration(BaseModel):
    issuer: str
    jwks_uri: str


class _Key(BaseModel):
    """What we look at; the rest is the library's."""

    kty: str
    kid: str | None = None
    use: str = "sig"
    alg: str | None = None


class _KeySet(BaseModel):
    keys: list[Any]


class Issuers:
    """All that are trusted."""

    def __init__(
        self, trusted: Iterable[TrustedIssuer], *, allow_private_addresses: bool = False, clock: Clock = time.monotonic
    ) -> None:
        options = Options(allow_private_addresses=allow_private_addresses)
        self._issuers = {one.issuer: Issuer(one, options, clock) for one in trusted}

    async def find(self, text: str) -> Token | None:
        """None for what is no JWT, or where no issuer is trusted: it may be a token of ours.

        Raises:
            DeploymentError: unauthenticated, insufficient-permissions, or unavailable.
        """
        if not self._issuers:
            return None
        try:
            unverified = jwt.decode_complete(text, options={"verify_signature": False})
        except jwt.PyJWTError:
            return None
        name = unverified["payload"].get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise _refused("its issuer is not one of those that are trusted here")
        return await issuer.admit(text, unverified["header"])

    async def close(self) -> None:
        for issuer in self._issuers.values():
            await issuer.close()


class Issuer:
    """One of them, with its keys as they were read last."""

    def __init__(self, trusted: TrustedIssuer, options: Options, clock: Clock) -> None:
        self._trusted = trusted
        self._http = Http(f"the issuer {trusted.issuer}", trusted.issuer, options)
        self._clock = clock
        self._keys: dict[KeyName, jwt.PyJWK] = {}
        self._read_at = self._asked_at = -math.inf
        self._away = False
        self._asking: asyncio.Task[None] | None = None

    async def admit(self, text: str, header: dict[str, Any]) -> Token:
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise _refused(f"it is signed in a way that is not accepted; accepted: {', '.join(sorted(ALGORITHMS))}")
        key = await self._key(header.get("kid"), algorithm)
        try:
            claims = jwt.decode(
                text,
                key,
                algorithms=[key.algorithm_name],
                audience=self._trusted.audience,
                issuer=self._trusted.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": _REQUIRED, "enforce_minimum_key_length": True},
            )
        except jwt.MissingRequiredClaimError as error:
            raise _refused(f"it lacks the claim {error.claim}") from None
        except jwt.PyJWTError as error:
            raise _refused(_WHY.get(type(error), "it cannot be read")) from None
        if not claims["sub"]:
            raise _refused("its claim sub is empty")
        return self._trusted.admit(claims)

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking
        await self._http.close()

    async def _key(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        key = self._known(kid, algorithm)
        if key is None or self._clock() - self._read_at > FRESH_SECONDS:
            asking = self._ask()
            # Nobody waits for an issuer that was away a moment ago, when its key is known.
            if asking is not None and (key is None or not self._away):
                await asyncio.shield(asking)  # it goes on for the others when this caller goes away
                key = self._known(kid, algorithm)
        if key is not None:
            return key
        if self._away:
            raise DeploymentError(
                ErrorCode.UNAVAILABLE,
                "the issuer of this token cannot be asked for its keys now, and the one of this token is not known yet",
                retry_after_seconds=math.ceil(PAUSE_SECONDS),
            )
        raise _refused("it is signed with a key that its issuer does not publish")

    def _known(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        if self._clock() - self._read_at > HELD_SECONDS:
            return None
        if kid is not None:
            return self._keys.get((kid, algorithm))
        fitting = [key for (_, used_with), key in self._keys.items() if used_with == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _ask(self) -> asyncio.Task[None] | None:
        """The question that is under way, or a new one; None within the pause."""
        if self._asking is None and self._clock() - self._asked_at >= PAUSE_SECONDS:
            self._asking = asyncio.create_task(self._read())
        return self._asking

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                self._keys = await self._published()
        except (DeploymentError, TimeoutError) as error:
            self._away = True
            _log.warning("the keys of an issuer cannot be read", issuer=self._trusted.issuer, why=str(error))
        else:
            self._away = False
            self._read_at = self._clock()
        finally:
            self._asked_at = self._clock()
            self._asking = None

    async def _published(self) -> dict[KeyName, jwt.PyJWK]:
        answer = await self._http.session(None).call(_DISCOVERY)
        said = answer.read(_Configuration)
        if said.issuer != self._trusted.issuer:
            raise answer.unusable("it is the configuration of another issuer")
        secure = said.jwks_uri.startswith("https:") or self._trusted.issuer.startswith("http:")
        if link(said.jwks_uri) is None or not secure:
            raise answer.unusable("jwks_uri: no https address")
        call = _KEYS_OF_DIRECTORY if said.jwks_uri.endswith("/") else _KEYS
        answer = await self._http.session(None, base_url=said.jwks_uri).call(call)
        keys = {name: key for one in answer.read(_KeySet).keys for name, key in _usable(one)}
        if not keys:
            raise answer.unusable("no key that can be used")
        return keys


def _usable(published: Any) -> Iterator[tuple[KeyName, jwt.PyJWK]]:
    """A key with each algorithm that it may be used with: its own; RSA keys that name none, with all of RSA."""
    try:
        told = _Key.model_validate(published)
    except ValidationError:
        return
    every = [algorithm for algorithm in ALGORITHMS if algorithm[:2] in {"RS", "PS"}]
    for algorithm in every if (told.kty, told.alg) == ("RSA", None) else [told.alg]:
        with contextlib.suppress(jwt.PyJWTError, TypeError, ValueError):
            key = jwt.PyJWK(published, algorithm)
            if told.use == "sig" and key.algorithm_name in ALGORITHMS:
                yield (told.kid, key.algorithm_name), key


def _refused(why: str) -> DeploymentError:
    return DeploymentError(ErrorCode.UNAUTHENTICATED, f"this OpenID Connect token is refused: {why}")
