"""What stands in the place of a provider that cannot be loaded: whatever it is asked, it says why it is not there."""

from collections.abc import AsyncGenerator
from typing import Any, ClassVar, NoReturn

from domain.errors import DeploymentError, ErrorCode
from domain.result import BuildReport
from providers.base import Build, BuildNews, BuildRequest, Capability, Provider, Publication


class Missing(Provider):
    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    why: ClassVar[str]

    async def start_build(self, request: BuildRequest) -> Build:
        self._refuse(request)

    async def follow_build(self, request: BuildRequest, build: Build, cursor: str) -> AsyncGenerator[BuildNews, None]:
        self._refuse(request, build, cursor)
        yield  # it is a generator

    async def cancel_build(self, request: BuildRequest, build: Build) -> None:
        self._refuse(request, build)

    async def publish_build(self, request: BuildRequest, build: Build) -> Publication:
        self._refuse(request, build)

    async def collect_report(self, request: BuildRequest, build: Build) -> BuildReport:
        self._refuse(request, build)

    @classmethod
    def check_settings(cls, settings: dict[str, Any], repository_url: str | None) -> None:
        cls._refuse(settings, repository_url)

    @classmethod
    def _refuse(cls, *asked: object) -> NoReturn:
        del asked
        message = f"the provider {cls.name} is not available here: {cls.why}; the service's log has the reason"
        raise DeploymentError(ErrorCode.INVALID_REQUEST, message, fields=[("/provider", cls.why)])


def missing(name: str, why: str) -> type[Missing]:
    return type("Missing", (Missing,), {"name": name, "why": why})
