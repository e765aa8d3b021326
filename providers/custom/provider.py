"""The `custom` provider: whatever can be asked over HTTP, as a project's `providerSettings` describe it.

Rules:
1. What is not described is not done: without a request `cancel` the project's builds cannot be canceled, and so on.
2. One intent is one build. With `find` it is looked for first. Without, a create whose outcome is not known is repeated
   only where the description says that this makes no second one; else the deployment ends and says so.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any, ClassVar

from domain.errors import DeploymentError, ErrorCode
from domain.log import LogLine
from domain.result import BuildReport
from domain.source import check_source_ref
from providers.base import Build, BuildNews, BuildRequest, Capability, Provider, Publication
from providers.beats import with_beats
from providers.custom.api import GONE, Api, document_of
from providers.custom.checks import read_settings
from providers.custom.follow import GONE_LOOKS, Follower
from providers.custom.pointers import at, identifier_at, links_at
from providers.custom.words import gone, is_live, verdict
from providers.http import Ambiguous, Answer, Http, Options, plain
from providers.verdict import Verdict
from providers.wake import Watch, unwoken

CANCEL_SECONDS = 90
PUBLISH_SECONDS = 90
"""How long one attempt waits; the next goes on where it stands."""


class Custom(Provider):
    """`watch` says when there may be news (webhooks)."""

    name: ClassVar[str] = "custom"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.CANCEL, Capability.LIVE_LOGS, Capability.REPOINT}
    )

    def __init__(self, options: Options | None = None, *, watch: Watch = unwoken) -> None:
        self._http = Http(self.name, options=options)
        self._watch = watch

    async def close(self) -> None:
        await self._http.close()

    @classmethod
    def check_settings(cls, settings: dict[str, Any], repository_url: str | None) -> None:
        del repository_url  # a description may name it, and need not
        read_settings(settings)

    @classmethod
    def capabilities_of(cls, settings: dict[str, Any]) -> frozenset[Capability]:
        return read_settings(settings).capabilities

    async def start_build(self, request: BuildRequest) -> Build:
        check_source_ref(request.source_ref)
        api = Api(self._http, request)
        if request.configuration.skip_deploy and api.settings.requests.publish is None:
            message = "skipDeploy is refused: the description has no request publish, so what is built is published"
            raise DeploymentError(ErrorCode.INVALID_REQUEST, message)
        return request.build(await self._find(api) or await self._create(api))

    async def find_build(self, request: BuildRequest) -> Build | None:
        build_id = await self._find(Api(self._http, request))
        return None if build_id is None else request.build(build_id)

    async def follow_build(self, request: BuildRequest, build: Build, cursor: str) -> AsyncGenerator[BuildNews, None]:
        follower = Follower(Api(self._http, request), build.build_id, cursor)
        first = BuildNews(cursor=cursor, stage="initializing")
        async with (
            self._watch(build.deployment_id) as wake,
            contextlib.aclosing(with_beats(follower.news(wake), first)) as all_news,
        ):
            async for news in all_news:
                yield news

    async def cancel_build(self, request: BuildRequest, build: Build) -> None:
        """Whatever is answered: what counts is how the build stands afterwards."""
        api = Api(self._http, request)
        missing = 0
        until = time.monotonic() + CANCEL_SECONDS
        while time.monotonic() < until:
            known, document = await self._stands(api, build)
            missing = missing + 1 if document is None else 0
            if missing >= GONE_LOOKS or (known.final and not missing):
                return
            if api.settings.requests.cancel is None:
                message = f"build {plain(build.build_id, 80)} goes on: the project's description has no request cancel"
                raise DeploymentError(ErrorCode.CONFLICT, message)
            await api.ask("cancel", buildId=build.build_id)
            await asyncio.sleep(api.settings.poll.shortest_seconds)
        message = f"the provider has not stopped the build within {CANCEL_SECONDS} s"
        raise DeploymentError(ErrorCode.UNAVAILABLE, message, retry_after_seconds=5)

    def publishes_itself(self, request: BuildRequest) -> bool:
        return read_settings(request.provider_settings).requests.publish is None

    async def publish_build(self, request: BuildRequest, build: Build) -> Publication:
        api = Api(self._http, request)
        if api.settings.requests.publish is not None:
            await request.check_turn()
            await api.ask("publish", buildId=build.build_id)
        return await self._published(api, build, "has been published")

    async def repoint(self, request: BuildRequest, build: Build) -> Publication:
        api = Api(self._http, request)
        if api.settings.requests.repoint is None:
            return await super().repoint(request, build)
        await request.check_turn()
        await api.ask("repoint", buildId=build.build_id)
        return await self._published(api, build, "is live again")

    async def collect_report(self, request: BuildRequest, build: Build) -> BuildReport:
        api = Api(self._http, request)
        known, document = await self._stands(api, build)
        if known.stage != "built":
            return BuildReport()
        urls = links_at(document, api.settings.requests.status.answer.url)
        return BuildReport(artifact_id=build.build_id, artifact_urls=urls)

    async def _find(self, api: Api) -> str | None:
        """The build of this deployment, where there is one and that can be asked."""
        find, ours = api.settings.requests.find, api.request.deployment_id
        if find is None:
            return None
        answer = await api.ask("find")
        if answer.status in GONE:
            return None
        document = document_of(answer)
        builds = [document] if find.answer.items is None else at(document, find.answer.items)
        if not isinstance(builds, list):
            raise answer.unusable(f"{find.answer.items}: no list of builds")
        for build in builds:
            if find.answer.match is None or at(build, find.answer.match) == ours:
                return _build_id(answer, build, find.answer.id, ours)
        return None

    async def _create(self, api: Api) -> str:
        try:
            answer = await api.ask("create")
            pointer = api.settings.requests.create.answer.id
            return _build_id(
                answer, document_of(answer) if pointer is not None else None, pointer, api.request.deployment_id
            )
        except Ambiguous as unknown:
            if api.settings.requests.find is None:
                raise _unknown(unknown) from None
            found = None
            with contextlib.suppress(DeploymentError):
                found = await self._find(api)
            if found is None:
                raise
            return found

    async def _stands(self, api: Api, build: Build) -> tuple[Verdict, Any]:
        answer = await api.ask("status", buildId=build.build_id)
        if answer.status in GONE:
            return gone(build.build_id), None
        document = document_of(answer)
        return verdict(api.settings, answer, document), document

    async def _published(self, api: Api, build: Build, what: str) -> Publication:
        """Where it is reached, once the provider says that it is."""
        until = time.monotonic() + PUBLISH_SECONDS
        while time.monotonic() < until:
            known, document = await self._stands(api, build)
            if known.failure is not None:
                raise DeploymentError(ErrorCode.DEPLOY_FAILED, known.failure.message)
            if is_live(api.settings, document):
                where = api.settings.requests.status.answer
                url = next(iter(links_at(document, where.url)), None)
                line = LogLine(
                    timestamp=datetime.now(UTC),
                    message=f"{build.build_id} {what}" + (f" at {url}" if url else ""),
                    step="publish",
                    source="deploy",
                )
                previews = links_at(document, where.preview_urls)
                return Publication(deployment_url=url, preview_urls=previews, lines=[line])
            await asyncio.sleep(api.settings.poll.shortest_seconds)
        message = "the provider does not say yet that the build is live"
        raise DeploymentError(ErrorCode.UNAVAILABLE, message, retry_after_seconds=5)


def _build_id(answer: Answer, document: Any, pointer: str | None, ours: str) -> str:
    """A description without a pointer says that builds there have our ids."""
    build_id = ours if pointer is None else identifier_at(document, pointer)
    if build_id is None:
        raise answer.unusable(f"{pointer or 'the whole'}: no id")
    return build_id


def _unknown(why: Ambiguous) -> DeploymentError:
    hint = "look there before you deploy again; a request find, or idempotentCreate, would let this be found out"
    message = f"it is not known whether a build runs: {why.message}"
    return DeploymentError(ErrorCode.BUILD_FAILED, message, details={"hint": hint})
