"""Webhooks of hosts that build: which build they are about. What they say of it is not believed: the host is asked.

Sources: Vercel's reference of its webhooks; Netlify's page on deploy notifications, whose body is the deploy; for
`custom` the Standard Webhooks specification, and a pointer of the project's.
"""

import hashlib
from typing import Any

from domain.webhook import Delivery
from providers.webhooks.documents import at, identifier, ours, some, text
from providers.webhooks.signatures import Headers

_VERCEL_BUILDS = (("deployment", "id"), ("deploymentId",), ("toDeploymentId",), ("fromDeploymentId",))


def vercel(_: Headers, body: bytes, document: Any) -> Delivery:
    delivery_id, payload = text(at(document, "id")), at(document, "payload")
    return Delivery(
        identity=delivery_id or _digest(body),
        delivery_id=delivery_id,
        kind=text(at(document, "type")) or "unknown",
        build_ids=some(identifier(at(payload, *path)) for path in _VERCEL_BUILDS),
        deployment_ids=ours(at(payload, "deployment", "meta")),
    )


def netlify(_: Headers, body: bytes, document: Any) -> Delivery:
    state = text(at(document, "state"))
    return Delivery(
        identity=_digest(body),
        kind=f"deploy.{state}" if state else "unknown",
        build_ids=some(identifier(at(document, name)) for name in ("id", "build_id")),
        deployment_ids=ours(at(document, "title")),
    )


def custom(headers: Headers, body: bytes, document: Any) -> Delivery:
    delivery_id = text(headers.get("webhook-id"), 255)
    return Delivery(
        identity=delivery_id or _digest(body), delivery_id=delivery_id, kind=text(at(document, "type")) or "unknown"
    )


def custom_without_id(_: Headers, body: bytes, document: Any) -> Delivery:
    """Where the body alone is signed, it alone tells deliveries apart."""
    return Delivery(identity=_digest(body), kind=text(at(document, "type")) or "unknown")


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
