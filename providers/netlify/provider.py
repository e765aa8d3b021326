"""The `netlify` provider: Netlify builds a branch, or publishes files that were built here.

Rules:
1. Our deployment id is in the deploy's title: one intent is one deploy there (`builds`).
2. What is live is what the site says (`live`); `ready` alone is not.
3. Netlify offers no log API: the log is told after the end, as far as it can be had (`log`).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar

from domain.errors import DeploymentError, ErrorCode
from domain.log import LogLine
from domain.result import BuildReport, DeploymentMetrics
from providers.base import Build, BuildNews, BuildRequest, Capability, Provider, Publication
from providers.beats import with_beats
from providers.http import Http, Options, link, plain
from providers.netlify.api import Api
from providers.netlify.builds import check, find, start_from_files, start_from_git
from providers.netlify.calls import CANCEL, Deploy, Site
from providers.netlify.follow import Follower
from providers.netlify.live import make_live
from providers.netlify.log import note
from providers.netlify.pace import Pace
from providers.netlify.settings import Settings
from providers.netlify.words import READY, verdict
from providers.wake import Watch, unwoken

API_URL = "https://api.netlify.com/api/v1"

Releases = Callable[[str], Path | None]
"""The directory with what was built for the deployment of that id, where there is one on this host."""


def no_releases(_: str) -> Path | None:
    return None


class Netlify(Provider):
    """`token` is the operator's, for projects that bring none. `watch` says when there may be news (webhooks).

    `releases` is for mode `files`.
    """

    name: ClassVar[str] = "netlify"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CANCEL, Capability.REPOINT})

    def __init__(
        self,
        token: str | None = None,
        api_url: str = API_URL,
        options: Options | None = None,
        *,
        releases: Releases = no_releases,
        watch: Watch = unwoken,
        pace: Pace | None = None,
    ) -> None:
        self._token = token
        self._http = Http(self.name, api_url, options)
        self._releases = releases
        self._watch = watch
        self._pace = pace or Pace()

    async def close(self) -> None:
        await self._http.close()

    async def start_build(self, request: BuildRequest) -> Build:
        api = self._api(request)
        check(api, request)
        return request.build(await find(api, request) or await self._start(api, request))

    async def find_build(self, request: BuildRequest) -> Build | None:
        build_id = await find(self._api(request), request)
        return None if build_id is None else request.build(build_id)

    async def follow_build(self, request: BuildRequest, build: Build, cursor: str) -> AsyncGenerator[BuildNews, None]:
        directory = self._releases(build.deployment_id)
        follower = Follower(self._api(request), request, build.build_id, cursor, pace=self._pace, directory=directory)
        first = BuildNews(cursor=cursor, stage="initializing")
        async with (
            self._watch(build.deployment_id) as wake,
            aclosing(with_beats(follower.news(wake), first)) as all_news,
        ):
            async for news in all_news:
                yield news

    async def cancel_build(self, request: BuildRequest, build: Build) -> None:
        """Whatever Netlify answers: what counts is what the deploy says afterwards."""
        api = self._api(request)
        until = time.monotonic() + self._pace.patience
        while time.monotonic() < until:
            deploy = await api.deploy(build.build_id)
            if deploy is not None and verdict(deploy).final:
                return
            answer = await api.call(CANCEL, id=build.build_id)
            if deploy is None and answer.status == 404:
                return
            await asyncio.sleep(self._pace.read_back)
        raise DeploymentError(ErrorCode.UNAVAILABLE, "netlify has not stopped the deploy yet", retry_after_seconds=5)

    def publishes_itself(self, request: BuildRequest) -> bool:
        del request
        return True

    async def publish_build(self, request: BuildRequest, build: Build) -> Publication:
        """Netlify publishes by itself, unless the site is locked or another deploy came first: then this one is."""
        return await self._served(request, build)

    async def repoint(self, request: BuildRequest, build: Build) -> Publication:
        """Publishes it again and locks it: the next push would undo it. What has its own address is where it was."""
        return await self._served(request, build, keep=True)

    async def collect_report(self, request: BuildRequest, build: Build) -> BuildReport:
        deploy = await self._api(request).deploy(build.build_id)
        if deploy is None:
            return BuildReport()
        own = _own_address(deploy)
        built = deploy.state == READY
        return BuildReport(
            metrics=DeploymentMetrics(build_time=max(0.0, deploy.deploy_time or 0)),
            artifact_id=build.build_id if built else None,
            artifact_urls=[own] if built and own else [],
            framework=plain(deploy.framework, 60) if deploy.framework else None,
        )

    @classmethod
    def check_settings(cls, settings: dict[str, Any], repository_url: str | None) -> None:
        del repository_url  # which one is built is said at Netlify
        Settings.read(settings)

    def _api(self, request: BuildRequest) -> Api:
        return Api(self._http, self._token, request)

    async def _start(self, api: Api, request: BuildRequest) -> str:
        if api.settings.mode == "git":
            return await start_from_git(api, request, self._pace)
        directory = self._releases(request.deployment_id)
        if directory is None:
            message = "nothing was built here for this deployment that netlify could publish; accepted is mode git"
            raise DeploymentError(ErrorCode.INVALID_REQUEST, message)
        return await start_from_files(api, request, directory, self._pace)

    async def _served(self, request: BuildRequest, build: Build, *, keep: bool = False) -> Publication:
        api = self._api(request)
        deploy = await api.deploy(build.build_id)
        if deploy is None:
            message = f"netlify has no deploy {build.build_id} any more; deploy its commit again"
            raise DeploymentError(ErrorCode.DEPLOY_FAILED, message)
        if not api.production:
            return _publication(deploy, None, [note(f"{build.build_id} has its own address at netlify")])
        return _publication(deploy, *await make_live(api, build.build_id, self._pace, keep=keep))


def _publication(deploy: Deploy, site: Site | None, lines: list[LogLine]) -> Publication:
    """The site's address before the deploy's own, where the site serves it."""
    served = (link(site.ssl_url) or link(site.url)) if site else None
    own = _own_address(deploy)
    urls = [url for url in (served, own) if url]
    return Publication(deployment_url=next(iter(urls), None), preview_urls=urls[1:], lines=lines)


def _own_address(deploy: Deploy) -> str | None:
    return link(deploy.deploy_ssl_url) or link(deploy.deploy_url)
