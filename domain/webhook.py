"""A webhook: what was read of a delivery, and what became of it."""

from typing import Literal

from pydantic import Field

from domain.wire import Timestamp, Wire

WebhookSender = Literal["custom", "github", "gitlab", "netlify", "vercel"]
WebhookState = Literal["parked", "pending", "applied", "replaced", "ignored"]
"""`parked`: no deployment has its build yet; `pending`: to be delivered; `replaced`: a newer push took its place."""

NO_COMMIT = frozenset({"0" * 40, "0" * 64})
"""What stands where a branch is not there: before its creation, after its deletion."""


class Push(Wire):
    """A ref of a repository that was moved from one commit to another."""

    repositories: list[str] = Field(description="its addresses, as `domain.source.repository_key` writes them")
    ref: str
    before: str
    after: str
    pushed_at: int | None = Field(default=None, description="seconds since 1970, where the sender says so")
    sender: str
    message: str | None = None

    @property
    def branch(self) -> str | None:
        return self.ref.removeprefix("refs/heads/") if self.ref.startswith("refs/heads/") else None

    @property
    def deleted(self) -> bool:
        return self.after in NO_COMMIT


class Delivery(Wire):
    """What was read of a verified delivery. `identity` is the same when it comes again, and cannot be forged."""

    identity: str
    delivery_id: str | None = Field(default=None, description="how the sender calls it")
    kind: str
    build_ids: list[str] = Field(default_factory=list, description="a provider's")
    deployment_ids: list[str] = Field(default_factory=list, description="what may be ids of ours")
    push: Push | None = None


class News(Wire):
    """Webhooks about one deployment that its workflow has not been told of; `kind` is that of the last one."""

    deployment_id: str
    webhook_ids: list[str]
    kind: str


class Hint(Wire):
    """What the workflow is told of them."""

    count: int
    kind: str


class Receipt(Wire):
    """The answer to a sender."""

    id: str
    state: WebhookState
    reason: str | None = None
    duplicate: bool = Field(default=False, description="whether it had come before")


class PushOutcome(Wire):
    """What a push became in one environment of one project."""

    project_id: str
    environment: str
    state: WebhookState
    reason: str | None = None
    deployment_id: str | None = None


class Pushed(Wire):
    repository: str | None = None
    ref: str
    before: str
    commit: str
    sender: str


class Webhook(Wire):
    """A delivery as admins see it."""

    id: str
    provider: WebhookSender
    project_id: str | None = Field(default=None, description="the one that its address named")
    delivery_id: str | None = None
    kind: str
    build_ids: list[str] = Field(default_factory=list)
    deployment_id: str | None = None
    push: Pushed | None = None
    triggers: list[PushOutcome] = Field(default_factory=list, description="what a push became")
    state: WebhookState
    reason: str | None = None
    received_at: Timestamp
    settled_at: Timestamp | None = None
