"""GitLab's webhooks: pushes may trigger, all else is ignored.

Source: GitLab's pages "Webhooks" and "Webhook events".
"""

import hashlib
from typing import Any

from domain.webhook import Delivery, Push
from providers.webhooks.documents import at, first_line, push_of, text
from providers.webhooks.signatures import Headers

_ADDRESSES = ("git_http_url", "git_ssh_url", "http_url", "ssh_url", "web_url")


def read(headers: Headers, body: bytes, document: Any) -> Delivery:
    # The first is signed where a signing token is used; the second names the same, and stays over retries.
    delivery_id = text(headers.get("webhook-id")) or text(headers.get("idempotency-key"))
    kind = text(at(document, "object_kind"))
    return Delivery(
        identity=delivery_id or f"sha256:{hashlib.sha256(body).hexdigest()}",
        delivery_id=delivery_id,
        kind=kind or text(headers.get("x-gitlab-event")) or "unknown",
        push=_push(document) if kind == "push" else None,
    )


def _push(document: Any) -> Push | None:
    commits = at(document, "commits")
    last = (
        next((one for one in commits if at(one, "id") == at(document, "after")), None)
        if type(commits) is list
        else None
    )
    return push_of(
        document,
        [at(document, "project", name) for name in _ADDRESSES],
        sender=text(at(document, "user_username")) or "unknown",
        message=first_line(at(last, "message")),
    )
