"""What the routes work with, put together once by `api.app` and handed to them by FastAPI's dependencies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from pydantic import Field

from api.background import Background
from api.callers import Callers
from api.delivery import Delivery
from api.log_feed import LogFeeds
from api.metrics import Metrics
from api.passes import Passes
from domain.wire import Wire
from store.audit_reader import AuditReader
from store.checkups import CheckupStore
from store.database import Database
from store.deployments import DeploymentStore
from store.environments import EnvironmentStore
from store.events import EventStore
from store.gate import GateStore
from store.limits import TriggerLimiter
from store.listener import Listener
from store.logs import LogStore
from store.projects import ProjectStore
from store.reconciliation import ReconciliationStore
from store.reseal import SecretKeyStore
from store.tokens import TokenStore
from store.webhooks import WebhookStore
from workflows.codec import SealedPayloads
from workflows.control import DeploymentWorkflows


class ProviderEntry(Wire):
    """A provider that projects may name."""

    name: str
    capabilities: list[str]
    configured: bool = Field(description="whether the operator has given what it needs")


@dataclass(frozen=True)
class Services:
    database: Database
    projects: ProjectStore
    deployments: DeploymentStore
    environments: EnvironmentStore
    events: EventStore
    gate: GateStore
    logs: LogStore
    tokens: TokenStore
    callers: Callers
    secret_keys: SecretKeyStore
    audit: AuditReader
    passes: Passes
    limiter: TriggerLimiter
    listener: Listener
    log_feeds: LogFeeds
    workflows: DeploymentWorkflows
    codec: SealedPayloads
    temporal_ui_key: str | None
    delivery: Delivery
    providers: tuple[ProviderEntry, ...]
    webhooks: WebhookStore
    webhook_secrets: Mapping[str, list[str]]
    reconciliation: ReconciliationStore
    checkups: CheckupStore
    metrics: Metrics
    background: Background


def _of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Wired = Annotated[Services, Depends(_of)]
