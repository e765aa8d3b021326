"""Mode `files` with a builder of our own: it builds, and Netlify publishes the files that came of it.

What is Netlify's in mode `git` is left to Netlify. In mode `files` a build is the builder's until it is published.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar

from domain.errors import DeploymentError, ErrorCode
from domain.log import LogLine
from domain.result import BuildReport
from providers.base import Build, BuildNews, BuildRequest, Capability, Provider, Publication
from providers.netlify.provider import Netlify
from providers.netlify.settings import Settings


class BuiltHere(Provider):
    name: ClassVar[str] = Netlify.name
    capabilities: ClassVar[frozenset[Capability]] = Netlify.capabilities

    def __init__(self, netlify: Netlify, builder: Provider) -> None:
        """`netlify` finds what `builder` has built by its `releases`."""
        self._netlify = netlify
        self._builder = builder

    async def close(self) -> None:
        await self._netlify.close()

    async def start_build(self, request: BuildRequest) -> Build:
        return await self._of(request).start_build(_for_builder(request) if _files(request) else request)

    def follow_build(self, request: BuildRequest, build: Build, cursor: str) -> AsyncGenerator[BuildNews, None]:
        return self._of(request).follow_build(request, build, cursor)

    async def cancel_build(self, request: BuildRequest, build: Build) -> None:
        await self._of(request).cancel_build(request, build)

    async def collect_report(self, request: BuildRequest, build: Build) -> BuildReport:
        return await self._of(request).collect_report(request, build)

    async def resolve_commit(self, request: BuildRequest) -> str | None:
        return await self._of(request).resolve_commit(request)

    async def publish_build(self, request: BuildRequest, build: Build) -> Publication:
        """The deploy that is there goes on: whoever comes again hands over what Netlify still lacks."""
        if not _files(request):
            return await self._netlify.publish_build(request, build)
        await request.check_turn()
        deploy = await self._netlify.start_build(request)
        lines: list[LogLine] = []
        async with aclosing(self._netlify.follow_build(request, deploy, "")) as all_news:
            async for news in all_news:
                lines += news.lines
        if news.stage != "built":
            reason = news.failure.message if news.failure else f"it ended as {news.stage}"
            raise DeploymentError(ErrorCode.DEPLOY_FAILED, f"netlify did not publish what was built: {reason}")
        publication = await self._netlify.publish_build(request, deploy)
        return publication.model_copy(update={"lines": [*lines, *publication.lines]})

    async def repoint(self, request: BuildRequest, build: Build) -> Publication:
        if not _files(request):
            return await self._netlify.repoint(request, build)
        deploy = await self._netlify.find_build(request.model_copy(update={"deployment_id": build.deployment_id}))
        if deploy is None:
            message = f"netlify has no deploy of deployment {build.deployment_id} any more; deploy its commit again"
            raise DeploymentError(ErrorCode.DEPLOY_FAILED, message)
        return await self._netlify.repoint(request, deploy)

    @classmethod
    def check_settings(cls, settings: dict[str, Any], repository_url: str | None) -> None:
        Netlify.check_settings(settings, repository_url)

    def _of(self, request: BuildRequest) -> Provider:
        return self._builder if _files(request) else self._netlify


def _files(request: BuildRequest) -> bool:
    return Settings.read(request.provider_settings).mode == "files"


def _for_builder(request: BuildRequest) -> BuildRequest:
    return request.model_copy(update={"provider_settings": {}})
