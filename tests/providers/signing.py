"""Webhooks as their senders would sign them, with a signer of our own for each scheme."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

PAYLOADS = Path(__file__).parent / "payloads"

SECRETS = {
    "custom": "whsec_" + base64.b64encode(b"the custom sender's signing key").decode(),
    "github": "It's a Secret to Everybody",
    "gitlab": "whsec_" + base64.b64encode(b"a signing key of thirty-two byte").decode(),
    "netlify": "a secret of Netlify's hook - long enough for HS256",
    "vercel": "a secret of Vercel's hook",
}

ZEROS = "0" * 40


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def signed(
    sender: str, body: bytes, secret: str, *, message: str = "msg_1", now: float | None = None
) -> dict[str, str]:
    """The headers of a delivery."""
    return {"content-type": "application/json", **_SCHEMES[sender](body, secret, message, int(now or time.time()))}


def _github(body: bytes, secret: str, message: str, _: int) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, "sha256").hexdigest()
    return {"x-hub-signature-256": f"sha256={digest}", "x-github-event": "push", "x-github-delivery": message}


def _vercel(body: bytes, secret: str, _: str, __: int) -> dict[str, str]:
    return {"x-vercel-signature": hmac.new(secret.encode(), body, "sha1").hexdigest()}


def _netlify(body: bytes, secret: str, _: str, __: int) -> dict[str, str]:
    claims = {"iss": "netlify", "sha256": hashlib.sha256(body).hexdigest()}
    return {"x-webhook-signature": jws(claims, secret)}


def _standard(body: bytes, secret: str, message: str, now: int) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message}.{now}.".encode() + body, "sha256").digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": message, "webhook-timestamp": str(now), "webhook-signature": signature}


def _gitlab(body: bytes, secret: str, message: str, now: int) -> dict[str, str]:
    if secret.startswith("whsec_"):
        return {"x-gitlab-event": "Push Hook", **_standard(body, secret, message, now)}
    return {"x-gitlab-event": "Push Hook", "idempotency-key": message, "x-gitlab-token": secret}


_SCHEMES = {"custom": _standard, "github": _github, "gitlab": _gitlab, "netlify": _netlify, "vercel": _vercel}


def jws(claims: dict[str, Any], secret: str, algorithm: str = "HS256") -> str:
    """RFC 7515, also with what nobody should accept."""
    head, payload = (_base64url(encoded(part)) for part in ({"alg": algorithm, "typ": "JWT"}, claims))
    hashes = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
    text = f"{head}.{payload}"
    mac = hmac.new(secret.encode(), text.encode(), hashes[algorithm]).digest() if algorithm in hashes else b""
    return f"{text}.{_base64url(mac)}"


def _base64url(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def vercel(build_id: str, delivery_id: str, kind: str = "deployment.succeeded", **meta: str) -> dict[str, Any]:
    """Built on the published keys."""
    document: dict[str, Any] = json.loads((PAYLOADS / "vercel/constructed.json").read_text())["events"][kind]
    document["payload"]["deployment"] |= {"id": build_id, "meta": meta}
    return {**document, "id": delivery_id}


def github_push(
    before: str, after: str, *, ref: str = "refs/heads/main", repository: str = "acme/shop"
) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((PAYLOADS / "github/push.with-new-branch.json").read_text())
    document["repository"] |= {
        "full_name": repository,
        "clone_url": f"https://github.com/{repository}.git",
        "ssh_url": f"git@github.com:{repository}.git",
        "git_url": f"git://github.com/{repository}.git",
        "html_url": f"https://github.com/{repository}",
    }
    return {**document, "ref": ref, "before": before, "after": after, "deleted": after == ZEROS}


def gitlab_push(before: str, after: str, *, ref: str = "refs/heads/main") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((PAYLOADS / "gitlab/push.json").read_text())
    return {**document, "ref": ref, "before": before, "after": after, "checkout_sha": after}


def commit(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()
