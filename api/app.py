"""The HTTP face put together: the one place in `api/` that reads settings and chooses what the routes work with."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.routing import APIRoute

from api import openapi, own_log, problems
from api.background import Background
from api.callers import Callers
from api.delivery import Delivery
from api.limits import RateLimitHeaders
from api.log_feed import LogFeeds
from api.metrics import Metrics
from api.middleware import BodyLimit, Observed
from api.passes import Passes
from api.routes import (
    audit,
    codec,
    deployments,
    doctor,
    events,
    logs,
    operations,
    projects,
    secret_keys,
    tokens,
    webhooks,
)
from api.services import ProviderEntry, Services
from providers import registry
from providers.oidc import Issuers
from providers.webhooks import senders
from settings import Settings, read
from store.archive import LogArchive
from store.audit_reader import AuditReader
from store.checkups import CheckupStore
from store.database import Database, migrate_patiently
from store.deployments import DeploymentStore
from store.environments import EnvironmentStore
from store.events import EventStore
from store.gate import GateStore
from store.limits import TriggerLimiter
from store.listener import Listener
from store.logs import LogStore
from store.outbox import Outbox
from store.projects import ProjectStore
from store.pushes import PushStore
from store.reconciliation import ReconciliationStore
from store.reseal import SecretKeyStore
from store.seal import Sealer
from store.tokens import TokenStore
from store.webhooks import WebhookStore
from workflows.codec import SealedPayloads
from workflows.control import DeploymentWorkflows
from workflows.dispatch import WebhookCourier

ROUTERS = (
    projects.router,
    deployments.router,
    logs.router,
    events.router,
    tokens.router,
    secret_keys.router,
    operations.router,
    doctor.router,
    webhooks.router,
    audit.router,
    codec.router,
)
ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]

DATABASE_SECONDS = 20
"""What one piece of a request's work may take there: longer than any that the database does, short of a caller's
patience."""

VERSION = "1.0.0"
"""Of what is on the wire, not of the package."""

_DESCRIPTION = """\
Deployments that survive whatever is killed: accepted is never lost, one intent is one build, one gapless log.

* Creating requests take an `Idempotency-Key` header (1 to 255 printable characters, quoted or bare), or the body's
  `idempotencyKey`. Within 24 h the same key and body get the first answer again, another body gets 422.
* `If-Match` with an entity tag on PATCH or DELETE: 412 when it was changed meanwhile. `If-None-Match` on GET: 304.
* Every error is `application/problem+json` (RFC 9457).
* Streams are server-sent events; with `Accept: application/x-ndjson` the same as JSON lines.
"""


def from_environment() -> FastAPI:
    """For `uvicorn api.app:from_environment --factory`."""
    settings = read()
    own_log.configure(settings.log_level)
    return create_app(settings)


def create_app(settings: Settings) -> FastAPI:
    services = _services(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as parts:
            await migrate_patiently(services.database.url)
            await parts.enter_async_context(services.database)
            if settings.first_token is not None:
                await services.tokens.ensure_first(settings.first_token.get_secret_value())
            parts.push_async_callback(services.callers.close)
            await parts.enter_async_context(services.listener)
            await parts.enter_async_context(services.log_feeds)
            parts.push_async_callback(services.background.close)
            yield

    app = FastAPI(
        title="Headway",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        middleware=[
            Middleware(Observed, metrics=services.metrics),
            Middleware(RateLimitHeaders),
            *_ui_origin(settings),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
        ],
    )
    app.state.services = services
    app.state.routes = ROUTES
    for router in ROUTERS:
        app.include_router(router)
    problems.install(app)
    openapi.install(app, [provider.name for provider in services.providers])
    return app


def _services(settings: Settings) -> Services:
    url = settings.database_url.get_secret_value()
    database = Database(url, settings.database_pool_size, DATABASE_SECONDS)
    sealer = Sealer(settings.secret_keys.get_secret_value())
    archive = LogArchive(settings.log_archive, **settings.log_archive_access) if settings.log_archive else None
    limiter = TriggerLimiter(database, settings.trigger_limit)
    page = _temporal_page(settings)
    ui_key = settings.temporal_ui_key
    log_store = LogStore(database, sealer, archive)
    tokens_store = TokenStore(database, sealer)
    callers = Callers(
        tokens_store, Issuers(settings.oidc_issuers, allow_private_addresses=settings.allow_private_addresses)
    )
    listener, passes = Listener(url), Passes(callers)
    workflows = DeploymentWorkflows(settings.temporal_address, settings.temporal_namespace, sealer)
    deployment_store = DeploymentStore(database, sealer, limiter, page)
    outbox = Outbox(database)
    return Services(
        database=database,
        projects=ProjectStore(database, sealer),
        deployments=deployment_store,
        environments=EnvironmentStore(database),
        events=EventStore(database, page),
        gate=GateStore(database, page),
        logs=log_store,
        tokens=tokens_store,
        callers=callers,
        secret_keys=SecretKeyStore(database, sealer),
        audit=AuditReader(database),
        passes=passes,
        limiter=limiter,
        listener=listener,
        log_feeds=LogFeeds(log_store, deployment_store, listener, passes),
        workflows=workflows,
        codec=SealedPayloads(sealer, settings.temporal_namespace),
        temporal_ui_key=ui_key.get_secret_value() if ui_key else None,
        delivery=Delivery(workflows, outbox, WebhookCourier(outbox, PushStore(database, deployment_store), workflows)),
        webhooks=WebhookStore(database, sealer),
        webhook_secrets=_webhook_secrets(settings),
        providers=_providers(settings),
        reconciliation=ReconciliationStore(database),
        checkups=CheckupStore(database, sealer),
        metrics=Metrics(),
        background=Background(),
    )


def _providers(settings: Settings) -> tuple[ProviderEntry, ...]:
    """Those that a project may name. One that the operator gave no credential works for projects that bring theirs."""
    credentials = {
        "github-pages": settings.github_token or settings.github_app_id,
        "netlify": settings.netlify_token,
        "vercel": settings.vercel_token,
    }
    return tuple(
        ProviderEntry(
            name=name, capabilities=sorted(provider.capabilities), configured=credentials.get(name, True) is not None
        )
        for name, provider in registry.provider_classes().items()
    )


def _webhook_secrets(settings: Settings) -> dict[str, list[str]]:
    said = {
        "github": settings.github_webhook_secret,
        "gitlab": settings.gitlab_webhook_secret,
        "netlify": settings.netlify_webhook_secret,
        "vercel": settings.vercel_webhook_secret,
    }
    return {
        sender: senders.secrets_of(secret.get_secret_value() if secret else None) for sender, secret in said.items()
    }


def _ui_origin(settings: Settings) -> list[Middleware]:
    if settings.temporal_ui_url is None:
        return []
    parts = urlsplit(settings.temporal_ui_url)
    return [Middleware(codec.UiOrigin, origin=f"{parts.scheme}://{parts.netloc}")]


def _temporal_page(settings: Settings) -> str | None:
    """Where the Temporal UI shows a workflow."""
    if settings.temporal_ui_url is None:
        return None
    return f"{settings.temporal_ui_url.rstrip('/')}/namespaces/{settings.temporal_namespace}/workflows/{{workflow_id}}"
