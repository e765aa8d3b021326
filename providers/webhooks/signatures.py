"""Whether a delivery comes from who holds the secret: one function per scheme, over the bytes as they were sent.

Rules: every comparison takes the same time, whatever differs. One spelling of a signature is accepted, the one that its
scheme writes: what was altered is refused even where a lenient reader would not notice. That, and what they raise for
malformed headers, is why Standard Webhooks' own library is not used for these few lines.
Sources: the senders' pages on webhooks; RFC 7515 (JWS); the Standard Webhooks specification 1.0.
"""

import base64
import binascii
import hashlib
import hmac
import re
import warnings
from collections.abc import Callable, Mapping

import jwt
from jwt.types import Options
from jwt.warnings import InsecureKeyLengthWarning

Headers = Mapping[str, str]
"""Names in lower case."""

Verify = Callable[[Headers, bytes, str, float], bool]
"""Of headers, body, one secret and the present moment."""

SIGNING_SECRET = "whsec_"  # noqa: S105  # the prefix of such secrets, not one
REPLAY_SECONDS = 300
"""How far a timestamp may be off, either way."""

_COMPACT_JWS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_MESSAGE_ID = re.compile(r"[!-\-/-~]{1,255}")
"""Without a dot: it parts what is signed."""
_SECONDS = re.compile(r"[0-9]{1,12}")


def hex_digest(header: str, algorithm: str, prefix: str = "") -> Verify:
    """The body's HMAC in hex."""

    def verify(headers: Headers, body: bytes, secret: str, _: float) -> bool:
        expected = prefix + hmac.new(secret.encode(), body, algorithm).hexdigest()
        return _same(headers.get(header, ""), expected)

    return verify


def netlify(headers: Headers, body: bytes, secret: str, _: float) -> bool:
    """A JWS of the issuer `netlify` that has the body's digest as a claim."""
    token = headers.get("x-webhook-signature", "")
    if not _COMPACT_JWS.fullmatch(token):
        return False
    options: Options = {"require": ["iss", "sha256"]}
    try:
        with warnings.catch_warnings(action="ignore", category=InsecureKeyLengthWarning):  # the secret's owner chose it
            claims = jwt.decode(token, secret, algorithms=["HS256"], issuer="netlify", options=options)
    except jwt.PyJWTError:
        return False
    return _same(str(claims["sha256"]), hashlib.sha256(body).hexdigest())


def standard(headers: Headers, body: bytes, secret: str, now: float) -> bool:
    """Standard Webhooks: HMAC over id, time and body; one of several signatures has to hold."""
    message, moment = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    key = _key(secret)
    if not key or not _MESSAGE_ID.fullmatch(message) or not _SECONDS.fullmatch(moment):
        return False
    if abs(now - int(moment)) > REPLAY_SECONDS:
        return False
    digest = hmac.new(key, f"{message}.{moment}.".encode() + body, "sha256").digest()
    expected = "v1," + base64.b64encode(digest).decode()
    return any(_same(sent, expected) for sent in headers.get("webhook-signature", "").split(" "))


def gitlab(headers: Headers, body: bytes, secret: str, now: float) -> bool:
    """By a signing token, which is known by its prefix, or by the older secret token, which is sent as it is."""
    if secret.startswith(SIGNING_SECRET):
        return standard(headers, body, secret, now)
    return _same(headers.get("x-gitlab-token", ""), secret)


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(SIGNING_SECRET), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _same(sent: str, expected: str) -> bool:
    return hmac.compare_digest(sent.encode("utf-8", "surrogatepass"), expected.encode())
