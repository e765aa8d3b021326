"""Starts what a request asks for, once: looks for our id among the titles of the site's deploys, and only then starts.

Netlify has nothing that makes a repeated start harmless. So who does not hear how one ended looks again and again, and
fails as `Ambiguous` if it is not found: the next attempt comes ten seconds later or more, and looks first.
"""

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path
from typing import Any

from domain.build import BuildRequest
from domain.errors import DeploymentError, ErrorCode
from domain.ids import made_at
from domain.source import check_source_ref, is_commit
from providers.http import Ambiguous, Params
from providers.netlify.api import PRODUCTION, Api
from providers.netlify.calls import BUILD, CREATE, LIST, Deploy, Site, Started
from providers.netlify.files import digests
from providers.netlify.pace import Pace
from providers.netlify.variables import set_variables

PAGES = 10
PER_PAGE = 100
CLOCK_SKEW = timedelta(minutes=10)
ASYNC_FROM = 100
"""Deploys of more files are compared by Netlify beside, as its clients ask for: within one call it takes too long."""
_LONGEST_ALIAS = 37


def check(api: Api, request: BuildRequest) -> None:
    """Refuses what cannot be built, before anything is asked."""
    check_source_ref(request.source_ref)
    if api.settings.mode == "files":
        return
    if is_commit(request.source_ref):
        raise _refused("the commit as sourceRef", "netlify builds the newest commit of a branch", "a branch")
    if request.configuration.skip_deploy and api.production:
        raise _refused("skipDeploy", "netlify publishes what it builds for production", "another environment")


async def start_from_git(api: Api, request: BuildRequest, pace: Pace) -> str:
    _check_branch(await api.site(), request)
    await set_variables(api, request)
    params: Params = {
        "branch": request.source_ref,
        "title": _title(request),
        "clear_cache": True if api.settings.clear_cache else None,
    }
    try:
        answer = await api.call(BUILD, params=params)
        started = answer.read(Started).deploy_id
        if started is None:
            raise answer.unusable("deploy_id is missing")
    except Ambiguous as unknown:
        return await _found_after_all(api, request, pace, unknown)
    return started


async def start_from_files(api: Api, request: BuildRequest, directory: Path, pace: Pace) -> str:
    """Tells Netlify which files there are. Which of them it wants is in the deploy, for who follows it."""
    draft = not api.production or request.configuration.skip_deploy
    if not draft and (await api.site()).prevent_non_git_prod_deploys:
        raise _refused("mode files", "the site takes production from git alone", "mode git")
    files = await asyncio.to_thread(digests, directory)
    body: dict[str, Any] = {"files": files, "draft": draft, "async": len(files) > ASYNC_FROM}
    if not api.production:
        body["branch"] = request.environment[:_LONGEST_ALIAS]
    try:
        return (await api.call(CREATE, params={"title": _title(request)}, json=body)).read(Deploy).id
    except Ambiguous as unknown:
        return await _found_after_all(api, request, pace, unknown)


async def find(api: Api, request: BuildRequest) -> str | None:
    """The deploy that was made for this request: of those with its title the first, should somebody repeat it there."""
    since = made_at(request.deployment_id) - CLOCK_SKEW
    found = None
    for page in range(1, PAGES + 1):
        deploys = (await api.call(LIST, params={"page": page, "per_page": PER_PAGE})).read(list[Deploy])
        for deploy in deploys:
            if request.deployment_id in (deploy.title or ""):
                found = deploy.id
        oldest = deploys[-1].created_at if deploys else None
        if len(deploys) < PER_PAGE or (oldest is not None and oldest < since):
            return found
    if found is not None:
        return found
    message = f"netlify lists more than {PAGES * PER_PAGE} deploys since this one was asked for"
    raise DeploymentError(ErrorCode.PROVIDER_ERROR, message)


async def _found_after_all(api: Api, request: BuildRequest, pace: Pace, unknown: Ambiguous) -> str:
    for pause in (0, *pace.find):
        await asyncio.sleep(pause)
        with contextlib.suppress(DeploymentError):
            found = await find(api, request)
            if found is not None:
                return found
    raise unknown


def _check_branch(site: Site, request: BuildRequest) -> None:
    """Which branch is production is said at Netlify: another would not go live, and that one would, whoever asks."""
    branch = site.production_branch
    if branch is None:
        raise _refused("mode git", "the site is not connected to a repository", "a site that is, or mode files")
    if (request.environment == PRODUCTION) != (request.source_ref == branch):
        what = f"{request.source_ref!r} for {request.environment!r}"
        why = f"of this site, netlify publishes {branch!r} as production and nothing else"
        raise _refused(what, why, "that branch for production, and others for other environments")


def _title(request: BuildRequest) -> str:
    return f"Headway {request.deployment_id}"


def _refused(what: str, why: str, accepted: str) -> DeploymentError:
    return DeploymentError(ErrorCode.INVALID_REQUEST, f"{what} is refused: {why}; accepted is {accepted}")
