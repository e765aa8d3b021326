"""The senders of webhooks: how each one signs, how its deliveries are read, and whose builds they are about."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from domain.webhook import Delivery, WebhookSender
from providers.webhooks import github, gitlab, hosts, signatures
from providers.webhooks.documents import at, text
from providers.webhooks.signatures import Headers, Verify

Read = Callable[[Headers, bytes, Any], Delivery]
"""Of headers, body, and the body as JSON."""


@dataclass(frozen=True)
class Sender:
    """`provider` is the one whose builds it tells of; None: all that the named project runs."""

    name: WebhookSender
    header: str
    check: Verify
    read: Read
    provider: str | None

    @property
    def secret_name(self) -> str:
        """Among a project's secrets; the operator's setting is HEADWAY_ and this."""
        return f"{self.name.upper()}_WEBHOOK_SECRET"

    def verify(self, headers: Headers, body: bytes, secrets: list[str], now: float) -> bool:
        """Whether one of the secrets signed it; there are two while one takes the other's place."""
        return any(self.check(headers, body, secret, now) for secret in secrets if secret)


ALL = (
    Sender("custom", "webhook-signature", signatures.standard, hosts.custom, None),
    Sender(
        "github",
        "X-Hub-Signature-256",
        signatures.hex_digest("x-hub-signature-256", "sha256", prefix="sha256="),
        github.read,
        "github-pages",
    ),
    Sender("gitlab", "X-Gitlab-Token or webhook-signature", signatures.gitlab, gitlab.read, "gitlab"),
    Sender("netlify", "X-Webhook-Signature", signatures.netlify, hosts.netlify, "netlify"),
    Sender("vercel", "x-vercel-signature", signatures.hex_digest("x-vercel-signature", "sha1"), hosts.vercel, "vercel"),
)

BY_NAME = {sender.name: sender for sender in ALL} | {"github-pages": next(s for s in ALL if s.name == "github")}
"""By the last part of their address; GitHub's also by the provider's name."""


def as_described(sender: Sender, settings: dict[str, Any]) -> Sender:
    """`sender` as a project's `providerSettings` describe it: what signs for `custom` may do so by an HMAC in hex."""
    told = at(settings, "webhooks")
    header, prefix = text(at(told, "header")), text(at(told, "prefix"))
    if sender.name != "custom" or at(told, "scheme") != "hmac-sha256" or header is None:
        return sender
    check = signatures.hex_digest(header.lower(), "sha256", prefix or "")
    return replace(sender, header=header, check=check, read=hosts.custom_without_id)


def secrets_of(said: str | None) -> list[str]:
    """Of a setting or a project's secret: comma-separated while one takes the other's place."""
    return [secret for part in (said or "").split(",") if (secret := part.strip())]
