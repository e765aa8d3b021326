"""GitHub's webhooks: workflow runs and deployments are hints, pushes may trigger.

Rule: signed is the body alone. What a delivery is, and whether it came before, is read there; headers only name it.
Source: GitHub's page on webhook events and payloads.
"""

import hashlib
from typing import Any

from domain.webhook import Delivery, Push
from providers.webhooks.documents import at, first_line, identifier, ours, push_of, some, text
from providers.webhooks.signatures import Headers

_BUILDS = (("workflow_run", "id"), ("workflow_job", "run_id"), ("deployment", "id"), ("build", "commit"))
"""Where events name a run, a deployment, or the commit of a Pages build."""
_ADDRESSES = ("clone_url", "ssh_url", "git_url", "html_url")


def read(headers: Headers, body: bytes, document: Any) -> Delivery:
    names = (text(headers.get("x-github-event")), text(at(document, "action")))
    push = _push(document)
    return Delivery(
        identity=f"sha256:{hashlib.sha256(body).hexdigest()}",
        delivery_id=text(headers.get("x-github-delivery")),
        kind="push" if push else ".".join(name for name in names if name) or "unknown",
        build_ids=[] if push else some(identifier(at(document, *path)) for path in _BUILDS),
        deployment_ids=ours(
            at(document, "workflow_run", "display_title"),
            at(document, "deployment", "payload"),
            at(document, "deployment", "description"),
        ),
        push=push,
    )


def _push(document: Any) -> Push | None:
    repository = at(document, "repository")
    pushed_at = at(repository, "pushed_at")
    return push_of(
        document,
        [at(repository, name) for name in _ADDRESSES],
        pushed_at=pushed_at if type(pushed_at) is int else None,
        sender=text(at(document, "sender", "login")) or text(at(document, "pusher", "name")) or "unknown",
        message=first_line(at(document, "head_commit", "message")),
    )
