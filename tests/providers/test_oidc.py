"""Tokens of a real issuer on loopback: which are accepted, which are not, and how often the issuer is asked."""

import asyncio
import base64
import json
import random
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from domain.errors import DeploymentError, ErrorCode
from domain.oidc import TrustedIssuer
from domain.token import Token
from providers import oidc
from providers.oidc import Issuers
from tests.clock import Clock
from tests.issuer import AUDIENCE, CONFIGURATION, KEYS, Issuer, private_key, published
from tests.servers import eventually

ONE_LOOK = [CONFIGURATION, KEYS]


@pytest.fixture
def clock() -> Clock:
    """What tokens say of times is compared with the real one."""
    return Clock()


@pytest.fixture
async def issuers(issuer: Issuer, clock: Clock) -> AsyncIterator[Issuers]:
    trusted = Issuers([TrustedIssuer(**issuer.trusted())], allow_private_addresses=True, clock=clock)
    yield trusted
    await trusted.close()


async def judged(issuers: Issuers, text: str) -> Token | DeploymentError | None:
    try:
        return await issuers.find(text)
    except DeploymentError as error:
        return error


async def refusal(issuers: Issuers, text: str) -> str:
    """Why a token is refused, as whoever has sent it is told."""
    told = await judged(issuers, text)
    assert isinstance(told, DeploymentError)
    assert told.code is ErrorCode.UNAUTHENTICATED
    return told.message


async def is_refused(issuers: Issuers, text: str) -> bool:
    """Also by judging it not at all: then it is no token of ours either."""
    told = await judged(issuers, text)
    return told is None or (isinstance(told, DeploymentError) and told.code is ErrorCode.UNAUTHENTICATED)


async def unavailable(issuers: Issuers, text: str) -> bool:
    told = await judged(issuers, text)
    return isinstance(told, DeploymentError) and (told.code, told.retry_after_seconds) == (ErrorCode.UNAVAILABLE, 10)


@pytest.mark.parametrize("algorithm", sorted(oidc.ALGORITHMS))
async def test_every_asymmetric_algorithm_is_accepted(issuer: Issuer, issuers: Issuers, algorithm: str) -> None:
    issuer.algorithm, issuer.keys = algorithm, {"first": private_key(algorithm if algorithm[0] == "E" else "RS256")}
    caller = await issuers.find(issuer.token())
    assert caller is not None
    assert (caller.subject, caller.scopes, caller.projects) == ("oidc:someone", ["read"], ["*"])
    assert issuer.asked == ONE_LOOK


@pytest.mark.parametrize("algorithm", ["RS512", "PS256"])
async def test_an_rsa_key_that_names_no_algorithm_is_used_with_those_of_rsa(
    issuer: Issuer, issuers: Issuers, algorithm: str
) -> None:
    issuer.algorithm, issuer.keys, issuer.members = algorithm, {"first": private_key("RS256")}, {"alg": None}
    assert await issuers.find(issuer.token())


async def test_a_token_without_a_kid_is_accepted_where_its_issuer_has_one_key(issuer: Issuer, issuers: Issuers) -> None:
    text = jwt.encode(issuer.claims(), issuer.keys["first"], "ES256")
    assert await issuers.find(text)


async def test_a_token_without_a_kid_is_refused_where_there_are_two_keys(issuer: Issuer, issuers: Issuers) -> None:
    issuer.keys["second"] = private_key("ES256", 2)
    text = jwt.encode(issuer.claims(), issuer.keys["first"], "ES256")
    assert "does not publish" in await refusal(issuers, text)


def from_now(claims: dict[str, Any]) -> dict[str, Any]:
    """Spans of time as moments: tests are listed long before they run."""
    now = int(time.time())
    return {
        name: now + int(value.total_seconds()) if isinstance(value, timedelta) else value
        for name, value in claims.items()
    }


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": timedelta(seconds=-90)}, "expired"),
        ({"nbf": timedelta(seconds=600)}, "not valid yet"),
        ({"iat": timedelta(seconds=600)}, "not valid yet"),
        ({"aud": "another service"}, "another audience"),
        ({"aud": ["another service"]}, "another audience"),
        ({"iss": "https://issuer.example.org"}, "not one of those"),
        ({"iss": ["https://issuer.example.org"]}, "not one of those"),
        ({"iss": None}, "not one of those"),
        ({"sub": None}, "lacks the claim sub"),
        ({"sub": ""}, "sub is empty"),
        ({"sub": 7}, "cannot be read"),
        ({"exp": None}, "lacks the claim exp"),
        ({"iat": None}, "lacks the claim iat"),
        ({"aud": None}, "lacks the claim aud"),
        ({"exp": "soon"}, "cannot be read"),
    ],
)
async def test_a_token_whose_claims_are_not_right_is_refused_with_the_reason(
    issuer: Issuer, issuers: Issuers, claims: dict[str, Any], why: str
) -> None:
    text = jwt.PyJWS().encode(
        json.dumps(issuer.claims(**from_now(claims))).encode(), issuer.keys["first"], "ES256", {"kid": "first"}
    )
    assert why in await refusal(issuers, text)


async def test_an_issuer_with_a_slash_more_is_another_one(issuer: Issuer, issuers: Issuers) -> None:
    assert "not one of those" in await refusal(issuers, issuer.token(iss=issuer.url + "/"))


@pytest.mark.parametrize("claims", [{"exp": timedelta(seconds=-5)}, {"nbf": timedelta(seconds=30)}, {"exp": 10**18}])
async def test_clocks_may_differ_a_little(issuer: Issuer, issuers: Issuers, claims: dict[str, Any]) -> None:
    assert await issuers.find(issuer.token(**from_now(claims)))


async def test_the_audience_may_be_one_of_several(issuer: Issuer, issuers: Issuers) -> None:
    assert await issuers.find(issuer.token(aud=["another service", AUDIENCE]))


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def test_an_unsigned_token_and_a_shared_secret_are_refused_before_anybody_is_asked(
    issuer: Issuer, issuers: Issuers
) -> None:
    algorithms: tuple[Any, ...] = ("none", "None", "HS256", "ES256K", "", None, 7, ["ES256"], {})
    for algorithm in algorithms:
        text = forged({"alg": algorithm, "kid": "first"}, issuer.claims(), b"x" * 32)
        assert "in a way that is not accepted" in await refusal(issuers, text)
    assert issuer.asked == []


async def test_a_public_key_is_never_taken_for_a_shared_secret(issuer: Issuer, issuers: Issuers) -> None:
    issuer.algorithm, issuer.keys = "RS256", {"first": private_key("RS256")}
    assert await issuers.find(issuer.token())
    key = issuer.keys["first"].public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    hmac = jwt.get_algorithm_by_name("HS256")
    unsigned = forged({"alg": "HS256", "kid": "first"}, issuer.claims()).rstrip(".")
    for secret in (pem, json.dumps(published(private_key("RS256"), "RS256")).encode()):
        signature = base64.urlsafe_b64encode(hmac.sign(unsigned.encode(), secret)).rstrip(b"=").decode()
        assert "not accepted" in await refusal(issuers, f"{unsigned}.{signature}")


async def test_a_key_that_the_token_brings_along_or_points_to_counts_for_nothing(
    issuer: Issuer, issuers: Issuers
) -> None:
    mine = private_key("ES256", 3)
    brought = {"jwk": published(mine, "ES256"), "jku": issuer.url + "/mine", "x5u": issuer.url + "/mine"}
    text = jwt.encode(issuer.claims(), mine, "ES256", {"kid": "first", **brought})
    assert "signature" in await refusal(issuers, text)
    assert issuer.asked == ONE_LOOK


async def test_a_key_for_something_else_a_short_one_and_nonsense_are_not_used(issuer: Issuer, issuers: Issuers) -> None:
    short = {"kty": "RSA", "kid": "short", "n": "u1W1WQ", "e": "AQAB"}
    secret = {"kty": "oct", "kid": "oct", "alg": "HS256", "k": "c2VjcmV0"}
    encryption = published(private_key("ES256", 4), "ES256", kid="enc", use="enc")
    nonsense = [7, {}, {"kty": []}, {"kty": "EC", "kid": []}, {"kty": "RSA", "alg": "RS256"}, {"kty": "X", "alg": "X"}]
    usual = published(issuer.keys["first"], "ES256", kid="first")
    issuer.answers[KEYS] = (200, {"keys": [*nonsense, short, secret, encryption, usual]})
    assert await issuers.find(issuer.token())
    text = jwt.encode(issuer.claims(), private_key("ES256", 4), "ES256", {"kid": "enc"})
    assert "does not publish" in await refusal(issuers, text)


async def test_a_critical_extension_that_is_not_known_is_refused(issuer: Issuer, issuers: Issuers) -> None:
    header = {"alg": "ES256", "kid": "first", "crit": ["x"], "x": 1}
    assert await issuers.find(forged(header, issuer.claims(), b"x" * 64)) is None


async def test_no_token_with_one_character_changed_is_accepted(issuer: Issuer, issuers: Issuers) -> None:
    chance = random.Random(7)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n"
    for number in range(3):
        text = issuer.token(sub=f"someone {number}")
        assert await issuers.find(text)
        # The last characters of each part always: unused bits of base64 are there.
        always = [place - 1 for place, character in enumerate(text + ".") if character == "."]
        for place in [*always, *chance.sample(range(len(text)), 150)]:
            changed = chance.choice(alphabet.replace(text[place], ""))
            assert await is_refused(issuers, text[:place] + changed + text[place + 1 :])


@pytest.mark.parametrize(
    "text",
    ["", "hw_ours", "a.b.c", "..", "eyJ.eyJ.x", "e30.e30.e30", "\xff.\xff.\xff", ("W1tb" * 2000 + ".") * 2 + "x"],
)
async def test_what_is_no_token_of_an_issuer_is_not_judged_and_asks_nobody(
    issuer: Issuer, issuers: Issuers, text: str
) -> None:
    assert await is_refused(issuers, text)
    assert issuer.asked == []


async def test_keys_are_read_again_when_they_are_old_and_one_that_is_gone_counts_no_more(
    issuer: Issuer, issuers: Issuers, clock: Clock
) -> None:
    old = issuer.token()
    assert await issuers.find(old)
    issuer.rotate("second")
    clock.now += oidc.FRESH_SECONDS
    assert await issuers.find(old)
    assert issuer.asked == ONE_LOOK
    clock.now += 1
    assert "does not publish" in await refusal(issuers, old)
    assert await issuers.find(issuer.token(kid="second"))
    assert issuer.asked == ONE_LOOK * 2


async def test_a_key_that_is_not_known_yet_is_looked_for_at_once(
    issuer: Issuer, issuers: Issuers, clock: Clock
) -> None:
    assert await issuers.find(issuer.token())
    issuer.keys["second"] = private_key("ES256", 2)
    clock.now += oidc.PAUSE_SECONDS
    assert await issuers.find(issuer.token(kid="second"))
    assert await issuers.find(issuer.token(kid="first"))
    assert issuer.asked == ONE_LOOK * 2


async def test_a_flood_of_invented_kids_asks_the_issuer_once_in_a_pause(
    issuer: Issuer, issuers: Issuers, clock: Clock
) -> None:
    good = issuer.token()
    for _ in range(3):
        flood = [
            jwt.encode(issuer.claims(), private_key("ES256", 9), "ES256", {"kid": f"k{number}"})
            for number in range(100)
        ]
        told = await asyncio.gather(*(issuers.find(text) for text in flood), issuers.find(good), return_exceptions=True)
        assert {type(one) for one in told[:-1]} == {DeploymentError}
        assert not isinstance(told[-1], BaseException)
        clock.now += oidc.PAUSE_SECONDS
    assert issuer.asked == ONE_LOOK * 3


async def test_while_the_issuer_is_away_known_keys_count_and_others_are_unavailable(
    issuer: Issuer, issuers: Issuers, clock: Clock
) -> None:
    good = issuer.token()
    assert await issuers.find(good)
    await issuer.stop()
    clock.now += oidc.FRESH_SECONDS + 1
    assert await issuers.find(good)
    issuer.keys["second"] = private_key("ES256", 2)
    other = issuer.token(kid="second")
    assert await unavailable(issuers, other)
    clock.now += oidc.PAUSE_SECONDS
    assert await unavailable(issuers, other)
    await issuer.start()
    assert await unavailable(issuers, other)  # within the pause
    clock.now += oidc.PAUSE_SECONDS
    assert await issuers.find(other)


async def test_known_keys_do_not_count_for_ever_without_their_issuer(
    issuer: Issuer, issuers: Issuers, clock: Clock
) -> None:
    good = issuer.token()
    assert await issuers.find(good)
    await issuer.stop()
    clock.now += oidc.HELD_SECONDS
    assert await issuers.find(good)
    clock.now += oidc.PAUSE_SECONDS
    assert await unavailable(issuers, good)


async def test_nobody_whose_key_is_known_waits_for_an_issuer_that_was_away(
    issuer: Issuer, issuers: Issuers, clock: Clock
) -> None:
    good = issuer.token()
    assert await issuers.find(good)
    issuer.answers[CONFIGURATION] = (503, {})
    clock.now += oidc.FRESH_SECONDS + 1
    assert await issuers.find(good)
    issuer.silence()
    clock.now += oidc.PAUSE_SECONDS
    assert await issuers.find(good)  # while the question is open

    async def asked() -> bool:
        return len(issuer.asked) == 4

    await eventually(asked)


async def test_who_goes_away_while_waiting_takes_the_answer_from_nobody(issuer: Issuer, issuers: Issuers) -> None:
    issuer.silence()
    text = issuer.token()
    first, second = (asyncio.create_task(issuers.find(text)) for _ in range(2))

    async def asked() -> bool:
        return len(issuer.asked) == 1

    await eventually(asked)
    first.cancel()
    issuer.speak()
    assert await second
    assert issuer.asked == ONE_LOOK


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (CONFIGURATION, (500, {})),
        (CONFIGURATION, (302, {})),
        (CONFIGURATION, (200, b"<html>")),
        (CONFIGURATION, (200, {"issuer": "http://127.0.0.1:1", "jwks_uri": "http://127.0.0.1:1"})),
        (KEYS, (404, {})),
        (KEYS, (302, {})),
        (KEYS, (200, {"keys": []})),
        (KEYS, (200, {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "first"}]})),
        (KEYS, (200, b"[" * 1000)),
        (KEYS, (200, b" " * 300_000)),
    ],
)
async def test_an_issuer_that_says_something_else_counts_as_away(
    issuer: Issuer, issuers: Issuers, path: str, answer: tuple[int, Any]
) -> None:
    issuer.answers[path] = answer
    assert await unavailable(issuers, issuer.token())
    assert set(issuer.asked) <= {CONFIGURATION, KEYS}


@pytest.mark.parametrize(
    "address",
    ["", "keys", "file:///etc/passwd", "http://[::1", "http://xn--a-/", "http://u:p@127.0.0.1/", "http://x y/"],
)
async def test_keys_at_no_usable_address_are_not_looked_for(issuer: Issuer, issuers: Issuers, address: str) -> None:
    issuer.answers[CONFIGURATION] = (200, {"issuer": issuer.url, "jwks_uri": address})
    assert await unavailable(issuers, issuer.token())
    assert issuer.asked == [CONFIGURATION]


@pytest.mark.parametrize("path", ["/of/ours/", "/keys?realm=ours"])
async def test_keys_are_read_where_the_issuer_says(issuer: Issuer, issuers: Issuers, path: str) -> None:
    issuer.answers[path] = issuer.usual(KEYS)
    issuer.answers[CONFIGURATION] = (200, {"issuer": issuer.url, "jwks_uri": issuer.url + path})
    assert await issuers.find(issuer.token())
    assert issuer.asked == [CONFIGURATION, path]


async def test_an_issuer_at_a_private_address_is_not_asked_unless_that_is_allowed(issuer: Issuer) -> None:
    strict = Issuers([TrustedIssuer(**issuer.trusted())])
    assert await unavailable(strict, issuer.token())
    assert issuer.asked == []
    await strict.close()


async def test_without_trusted_issuers_no_token_is_judged_here(issuer: Issuer) -> None:
    assert await Issuers([]).find(issuer.token()) is None
