"""`github-pages` keeps the promise of providers, and what is special about it."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from domain.errors import DeploymentError, ErrorCode
from providers.base import Build, BuildNews, BuildRequest
from providers.breaker import Breaker, Breakers
from providers.github_pages.credentials import App
from providers.github_pages.pace import Pace
from providers.github_pages.provider import GithubPages
from providers.github_pages.words import CONCLUSIONS, PAGES, PAGES_WAITS, WAITS
from providers.http import Options
from tests.drawings import ROOT
from tests.providers.conformance import ProviderConformance, messages, told
from tests.providers.conftest import build_request
from tests.providers.github_stand_in import INPUTS, OWNER, REPO, WORKFLOW, GithubStandIn, PageBuild, Run, commit_id, log

QUICK = Pace(poll=0.01, looks=(0.01, 0.01, 0.02), find=0.2, gone=0.1, log=0.2, pages=0.2, force=0.1)
SETTINGS = {"owner": OWNER, "repo": REPO, "mode": "workflow", "workflow": WORKFLOW}
BRANCH = {"owner": OWNER, "repo": REPO, "mode": "branch"}
TOKEN = "github_pat_of_the_operator"


class Patient(Breakers):
    """Opens late: each time that one opens costs a second."""

    def of(self, provider: str, account: str) -> Breaker:
        return self._all.setdefault((provider, account), Breaker(provider, threshold=50, first_pause=0.1))


@pytest.fixture
async def github() -> AsyncIterator[GithubStandIn]:
    async with GithubStandIn().running() as github:
        yield github
    assert not github.leaked


@asynccontextmanager
async def pages_of(github: GithubStandIn, **options: Any) -> AsyncIterator[GithubPages]:
    net = Options(allow_private_addresses=True, breakers=Patient())
    provider = GithubPages(api_url=github.url, options=net, **{"token": TOKEN, "pace": QUICK, **options})
    try:
        yield provider
    finally:
        await provider.close()


@pytest.fixture
async def provider(github: GithubStandIn) -> AsyncIterator[GithubPages]:
    async with pages_of(github) as provider:
        yield provider


def wanted(ref: str = "main", settings: dict[str, str] | None = None, **more: Any) -> BuildRequest:
    return build_request("https://github.com/octo/site.git", ref=ref, settings=settings or SETTINGS, **more)


class TestPromise(ProviderConformance):
    @pytest.fixture
    def well(self) -> BuildRequest:
        return wanted("main")

    @pytest.fixture
    def failing(self) -> BuildRequest:
        return wanted("broken")

    @pytest.fixture
    def endless(self) -> BuildRequest:
        return wanted("endless")


async def patiently(step: Callable[[], Awaitable[Any]], tries: int = 60) -> Any:
    """As the workflow does: what may succeed later is tried again, though sooner."""
    for _ in range(tries):
        try:
            return await step()
        except DeploymentError as error:
            if not error.retryable:
                raise
        await asyncio.sleep(0.02)
    raise AssertionError("it never succeeded")


class Deployed:
    """A deployment brought to its end."""

    def __init__(self, provider: GithubPages, request: BuildRequest, cursor: str = "") -> None:
        self.provider, self.request, self.cursor = provider, request, cursor
        self.build: Build | None = None
        self.news: list[BuildNews] = []

    @property
    def last(self) -> BuildNews:
        return self.news[-1]

    @property
    def lines(self) -> list[str]:
        return messages(self.news)

    @property
    def waits(self) -> set[str | None]:
        return {news.waiting for news in self.news}

    async def to_its_end(self) -> "Deployed":
        self.build = await patiently(partial(self.provider.start_build, self.request))
        async for news in self.provider.follow_build(self.request, self.build, self.cursor):
            assert not news.lines or news.cursor != self.cursor
            self.cursor = news.cursor
            self.news.append(news)
        return self


async def deployed(provider: GithubPages, request: BuildRequest) -> Deployed:
    return await Deployed(provider, request).to_its_end()


async def refusal(step: Awaitable[Any]) -> DeploymentError:
    with pytest.raises(DeploymentError) as refused:
        await step
    assert not refused.value.retryable
    return refused.value


# One run for one deployment


async def test_answers_that_are_lost_make_no_second_run(github: GithubStandIn, provider: GithubPages) -> None:
    requests = [wanted() for _ in range(30)]
    github.fault("lost", "POST", "/dispatches$", times=len(requests))

    builds = await asyncio.gather(*(patiently(partial(provider.start_build, request)) for request in requests))

    assert github.creates == {request.deployment_id: 1 for request in requests}
    assert [build.build_id for build in builds] == [str(github.run_of(r.deployment_id).id) for r in requests]


async def test_a_start_that_was_not_done_is_done_once(github: GithubStandIn, provider: GithubPages) -> None:
    for kind in ("reset", "status"):
        request = wanted()
        github.fault(kind, "POST", "/dispatches$", times=2, status=502)

        await patiently(partial(provider.start_build, request))

        assert github.creates[request.deployment_id] == 1


async def test_a_list_that_lags_behind_is_looked_at_again(github: GithubStandIn) -> None:
    github.list_lag = 0.5
    github.fault("lost", "POST", "/dispatches$")
    request = wanted()

    async with pages_of(github, pace=Pace(looks=(0.1, 0.2, 0.5))) as provider:
        build = await provider.start_build(request)

    assert build.build_id == str(github.run_of(request.deployment_id).id)
    assert github.creates[request.deployment_id] == 1


@pytest.mark.parametrize("answers", [204, 422])
async def test_a_server_that_does_not_tell_the_run_is_asked_for_its_name(
    github: GithubStandIn, provider: GithubPages, answers: int
) -> None:
    github.dispatch_answers = answers
    requests = [wanted(), wanted()]

    builds = await asyncio.gather(*map(provider.start_build, requests))

    assert [build.build_id for build in builds] == [str(github.run_of(r.deployment_id).id) for r in requests]


async def test_a_run_without_our_id_in_its_name_is_never_guessed(github: GithubStandIn, provider: GithubPages) -> None:
    github.dispatch_answers, github.names_runs = 204, False
    ended = await deployed(provider, wanted())

    assert ended.last.failure is not None
    assert "run-name" in ended.last.failure.message
    assert ended.build is not None
    assert (await refusal(provider.cancel_build(ended.request, ended.build))).code == ErrorCode.CONFLICT


async def test_a_run_that_could_not_be_found_again_is_warned_about(
    github: GithubStandIn, provider: GithubPages
) -> None:
    github.names_runs = False

    assert any("run-name" in line for line in (await deployed(provider, wanted())).lines)


async def test_a_run_of_long_ago_is_found_behind_many_others(github: GithubStandIn, provider: GithubPages) -> None:
    request = wanted()
    first = await provider.start_build(request)
    for _ in range(130):
        github.runs[1000 + len(github.runs)] = Run(1000 + len(github.runs), "main", "0" * 40, "another", {})

    assert await provider.start_build(request) == first


# What is asked for


async def test_a_branch_is_run_on_and_a_commit_is_checked_out(github: GithubStandIn, provider: GithubPages) -> None:
    old = commit_id("old")
    github.commits[old] = "an old one"
    cases = {
        ("main", None): ("main", ""),
        ("main", old): ("main", old),
        (old, None): ("main", old),
        (old[:10], None): ("main", old),
    }
    for (ref, commit), (run_on, checked_out) in cases.items():
        request = wanted(ref, commit=commit)
        ended = await deployed(provider, request)

        asked = github.asked("POST", "/dispatches$")[-1].json
        assert asked["ref"] == run_on
        assert asked["inputs"] == {
            "deployment_id": request.deployment_id,
            "environment": "production",
            "ref": checked_out,
        }
        assert ended.last.repository is not None
        assert ended.last.repository.commit == (checked_out or github.heads["main"])
        assert ended.last.repository.message == github.commits[ended.last.repository.commit or ""]


async def test_a_branch_that_reads_like_a_commit_is_a_branch(github: GithubStandIn, provider: GithubPages) -> None:
    github.heads["deadbeef"] = github.heads["main"]

    await provider.start_build(wanted("deadbeef"))

    assert github.asked("POST", "/dispatches$")[-1].json["ref"] == "deadbeef"
    assert github.asked("POST", "/dispatches$")[-1].json["inputs"]["ref"] == ""


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        (lambda: wanted("nowhere"), ErrorCode.INVALID_REQUEST, "No ref found for: nowhere"),
        (lambda: wanted("-x"), ErrorCode.INVALID_SOURCE_REF, "not a ref"),
        (lambda: wanted("1" * 40), ErrorCode.INVALID_SOURCE_REF, "No commit found"),
        (lambda: wanted(settings={**SETTINGS, "workflow": "no.yml"}), ErrorCode.INVALID_REQUEST, "no workflow no.yml"),
        (lambda: wanted(skip_deploy=True), ErrorCode.INVALID_REQUEST, "skipDeploy"),
    ],
)
async def test_what_cannot_be_done_is_refused_before_anything_runs(
    github: GithubStandIn, provider: GithubPages, request_: Callable[[], BuildRequest], code: ErrorCode, said: str
) -> None:
    error = await refusal(provider.start_build(request_()))

    assert error.code == code
    assert said in error.message
    assert not github.runs


async def test_a_workflow_that_does_not_take_our_inputs_is_named(
    github: GithubStandIn, provider: GithubPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.providers.github_stand_in.INPUTS", {"environment"})

    error = await refusal(provider.start_build(wanted()))

    assert "Unexpected inputs" in error.message
    assert "deployment_id" in error.details["hint"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "mode"),
        ({**SETTINGS, "mode": "magic"}, "mode"),
        ({**SETTINGS, "mode": ["workflow"]}, "mode"),
        ({**SETTINGS, "workfow": "x.yml"}, "workfow"),
        ({**BRANCH, "workflow": "x.yml"}, "workflow"),
        ({**SETTINGS, "workflow": "../x.yml"}, "workflow"),
        ({**SETTINGS, "workflow": "x.sh"}, "workflow"),
        ({"owner": "o", "repo": "r", "mode": "workflow"}, "workflow"),
        ({**SETTINGS, "owner": "a/b"}, "owner"),
        ({**SETTINGS, "owner": 7}, "owner"),
        ({**SETTINGS, "repo": ".."}, "repo"),
        ({**SETTINGS, "repo": "x\n"}, "repo"),
    ],
)
async def test_settings_that_could_not_work_are_refused_by_name(
    provider: GithubPages, settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(DeploymentError) as refused:
        provider.check_settings(settings, None)

    assert [pointer for pointer, _ in refused.value.fields] == [f"/providerSettings/{field}"]
    assert '"mode": "branch"' in refused.value.message


@pytest.mark.parametrize("settings", [SETTINGS, BRANCH, {**SETTINGS, "owner": "a_b", "repo": ".github"}])
async def test_settings_that_can_work_are_accepted(provider: GithubPages, settings: dict[str, Any]) -> None:
    provider.check_settings(settings, None)


# What is told


async def test_steps_are_told_and_then_the_log_of_the_job(github: GithubStandIn, provider: GithubPages) -> None:
    ended = await deployed(provider, wanted())

    assert ended.lines == [
        "GitHub hands over the log of a job once the job has ended; until then, its steps are told",
        "deploy.yml, attempt 1: https://github.com/octo/site/actions/runs/1000",
        "Checkout: started",
        "Checkout: success after 2 s",
        "Build: started",
        "Build: success after 2 s",
        "Upload: started",
        "Upload: success after 2 s",
        "build: success after 8 s",
        "##[group]Run npm ci",
        "added 3 packages",
        "##[endgroup]",
        "",
        "##[warning]old",
        "\x1b[32mdone\x1b[0m",
        "Deploy: started",
        "Deploy: success after 2 s",
        "deploy: success after 8 s",
        "Deploying",
        "Reported success!",
        "the run succeeded",
        "GitHub Pages has deployed",
    ]
    line = next(line for news in ended.news for line in news.lines if line.message == "added 3 packages")
    assert line.timestamp.isoformat() == "2026-11-20T10:00:01.123456+00:00"
    assert (line.step, line.source) == ("build", "build")
    assert "build / Build" in {news.step for news in ended.news}


async def test_a_failure_has_its_place_its_exit_code_and_its_last_lines(provider: GithubPages) -> None:
    failure = (await deployed(provider, wanted("broken"))).last.failure

    assert failure is not None
    assert (failure.code, failure.message) == (ErrorCode.BUILD_FAILED, "the run failed: build / Build")
    assert (failure.phase, failure.exit_code) == ("build / Build", 2)
    assert failure.log_excerpt[-2:] == ["src/a.ts(1,1): error TS1005", "##[error]Process completed with exit code 2."]


async def test_a_long_log_is_resumed_at_its_line(github: GithubStandIn, provider: GithubPages) -> None:
    github.logs["build"] = log(*(f"line {n}" for n in range(3500)))
    ended = await deployed(provider, wanted())
    full = [news for news in ended.news if len(news.lines) == 1000]
    assert len(full) == 3

    again = await Deployed(provider, ended.request, full[1].cursor).to_its_end()

    assert again.lines == ended.lines[ended.lines.index("line 2000") :]


async def test_jobs_beside_each_other_are_told_once_from_any_cursor() -> None:
    class Beside(GithubStandIn):
        def _jobs_of(self, run: Run) -> list[dict[str, Any]]:
            over = run.phase > 2
            return [
                self._job(run, "build", 0, "success" if over else None, steps=["Checkout", "Build"], ended=2 * over),
                self._job(run, "deploy", 1, "success", steps=["Deploy"], ended=1),
            ]

    async with Beside().running() as github, pages_of(github) as provider:
        ended = await deployed(provider, wanted())
        before: list[str] = []
        for part in ended.news[:-1]:
            before += messages([part])
            rest = await Deployed(provider, ended.request, part.cursor).to_its_end()
            assert sorted(before + rest.lines) == sorted(ended.lines)


async def test_a_log_that_is_not_there_yet_is_waited_for(github: GithubStandIn) -> None:
    github.logs_missing = 3

    async with pages_of(github, pace=replace(QUICK, log=30)) as provider:
        ended = await deployed(provider, wanted())

    assert ended.last.stage == "built"
    assert {"added 3 packages", "Reported success!"} <= set(ended.lines)


@pytest.mark.parametrize("link", ["", "javascript:alert(1)", "http://u:p@127.0.0.1/x", "http://127.0.0.1:1/x"])
async def test_a_log_that_cannot_be_had_fails_nothing(github: GithubStandIn, provider: GithubPages, link: str) -> None:
    github.log_link = lambda _: link

    ended = await deployed(provider, wanted())

    assert ended.last.stage == "built"
    given_up = " ".join(sorted(line for line in ended.lines if " is not whole: " in line))
    assert given_up.count(" is not whole: ") == 2
    for job in (100010, 100011):
        assert f"https://github.com/octo/site/actions/runs/1000/job/{job}" in given_up


async def test_a_log_without_end_is_left_out_where_it_gets_too_long(
    github: GithubStandIn, provider: GithubPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers.github_pages.job_log.MOST_OF_A_LOG", 10_000)
    github.logs["build"] = log(*(f"line {n}" for n in range(5000)))

    ended = await deployed(provider, wanted())

    assert ended.last.stage == "built"
    assert "line 100" in ended.lines
    assert "line 4999" not in ended.lines
    assert any("the rest is left out" in line for line in ended.lines)


# Words


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("requested", "has taken the run"),
        ("queued", "waits for a runner"),
        ("pending", "concurrency group"),
        ("waiting", "approval"),
        ("brand_new", "'brand_new'"),
    ],
)
async def test_a_run_that_waits_says_why_and_is_not_over(
    github: GithubStandIn, provider: GithubPages, word: str, why: str
) -> None:
    github.run_word = word
    request = wanted()
    build = await provider.start_build(request)
    run = github.run_of(request.deployment_id)
    heard: list[BuildNews] = []

    async for news in provider.follow_build(request, build, ""):
        heard.append(news)
        if len(heard) == 20:
            run.status, run.phase = None, 0

    assert any(why in (news.waiting or "") for news in heard[:20])
    assert heard[-1].stage == "built"
    assert heard[-1].waiting is None


@pytest.mark.parametrize(
    ("word", "stage", "code"),
    [
        ("success", "built", None),
        ("neutral", "built", None),
        ("skipped", "built", None),
        ("failure", "failed", ErrorCode.BUILD_FAILED),
        ("startup_failure", "failed", ErrorCode.BUILD_FAILED),
        ("stale", "failed", ErrorCode.BUILD_FAILED),
        ("timed_out", "timeout", ErrorCode.TIMEOUT),
        ("cancelled", "canceled", ErrorCode.CANCELED),
    ],
)
async def test_a_conclusion_has_one_meaning(
    github: GithubStandIn, provider: GithubPages, word: str, stage: str, code: ErrorCode | None
) -> None:
    request = wanted()
    build = await provider.start_build(request)
    github.run_of(request.deployment_id).conclusion = word

    last = (await told(provider, request, build))[-1]

    assert last.stage == stage
    assert (last.failure.code if last.failure else None) == code


@pytest.mark.parametrize(("word", "why"), [("action_required", "a person"), ("brand_new", "'brand_new'")])
async def test_a_conclusion_that_is_none_is_waited_through(
    github: GithubStandIn, provider: GithubPages, word: str, why: str
) -> None:
    request = wanted()
    build = await provider.start_build(request)
    run = github.run_of(request.deployment_id)
    run.conclusion = word
    seen = 0

    async for news in provider.follow_build(request, build, ""):
        if why in (news.waiting or ""):
            seen += 1
            if seen == 3:
                run.conclusion = None

    assert seen >= 3
    assert news.stage == "built"


async def test_pages_are_waited_for_through_every_word_that_is_not_final(
    github: GithubStandIn, provider: GithubPages
) -> None:
    words = ["deployment_queued", "", "brand_new", None, 7, ["succeed"]]
    for word in words:
        github.fault("twisted", "GET", "/pages/deployments/", twist=lambda _, word=word: {"status": word})

    ended = await deployed(provider, wanted())

    assert ended.last.stage == "built"
    assert {"GitHub Pages has queued the deployment", "GitHub Pages says 'brand_new'"} <= ended.waits
    assert not github.asked("POST", "cancel")


@pytest.mark.parametrize(
    ("word", "stage", "code"),
    [
        ("deployment_failed", "failed", ErrorCode.DEPLOY_FAILED),
        ("deployment_content_failed", "failed", ErrorCode.DEPLOY_FAILED),
        ("deployment_lost", "failed", ErrorCode.DEPLOY_FAILED),
        ("deployment_cancelled", "canceled", ErrorCode.CANCELED),
    ],
)
async def test_a_green_run_whose_page_failed_has_failed(
    github: GithubStandIn, provider: GithubPages, word: str, stage: str, code: ErrorCode
) -> None:
    github.pages_words[github.heads["main"]] = ["deployment_attempt_error", word]

    last = (await deployed(provider, wanted())).last

    assert last.failure is not None
    assert (last.stage, last.failure.code) == (stage, code)


async def test_a_green_run_that_deployed_no_page_has_failed(github: GithubStandIn, provider: GithubPages) -> None:
    github.pages_words[github.heads["main"]] = [None]

    last = (await deployed(provider, wanted())).last

    assert last.failure is not None
    assert last.failure.code == ErrorCode.DEPLOY_FAILED
    assert "knows no deployment of its commit" in last.failure.message


async def test_a_page_that_shows_up_late_is_waited_for(github: GithubStandIn, provider: GithubPages) -> None:
    github.pages_words[github.heads["main"]] = [None, None, "syncing_files", "succeed"]

    assert (await deployed(provider, wanted())).last.stage == "built"


async def test_a_run_that_somebody_runs_again_is_followed_in_its_newest_attempt(
    github: GithubStandIn, provider: GithubPages
) -> None:
    request = wanted()
    build = await provider.start_build(request)
    run = github.run_of(request.deployment_id)
    run.conclusion = "action_required"
    heard: list[BuildNews] = []

    async for news in provider.follow_build(request, build, ""):
        heard.append(news)
        if "a person" in (news.waiting or "") and run.attempt == 1:
            run.conclusion = None
            github.run_again(run)

    assert heard[-1].stage == "built"
    assert sum("somebody ran it again in GitHub: deploy.yml, attempt 2" in line for line in messages(heard)) == 1
    assert messages(heard).count("added 3 packages") == 2


# The GitHub Deployment


async def test_the_repository_shows_the_deployment(github: GithubStandIn) -> None:
    async with pages_of(github, public_url="https://headway.example.org/") as provider:
        request = wanted()
        await deployed(provider, request)

    (deployment,) = github.deployments
    asked = github.asked("POST", "/deployments$")[0].json
    assert (asked["auto_merge"], asked["required_contexts"]) == (False, [])
    assert deployment["payload"] == {"headwayDeploymentId": request.deployment_id}
    assert (deployment["environment"], deployment["ref"]) == ("production", github.heads["main"])
    statuses = github.statuses[deployment["id"]]
    assert [status["state"] for status in statuses] == ["in_progress", "success"]
    assert statuses[1]["environment_url"] == "https://octo.github.io/site/"
    assert statuses[0]["log_url"] == f"https://headway.example.org/v1/deployments/{request.deployment_id}/logs"


async def test_the_repository_shows_how_it_ended(github: GithubStandIn, provider: GithubPages) -> None:
    await deployed(provider, wanted("broken"))

    assert github.states() == [["in_progress", "failure"]]


async def test_answers_that_are_lost_show_no_deployment_twice(github: GithubStandIn, provider: GithubPages) -> None:
    for path in ("/deployments$", "/statuses$", "/statuses$"):
        github.fault("lost", "POST", path)

    ended = await deployed(provider, wanted())

    assert ended.last.stage == "built"
    assert github.states() == [["in_progress", "success"]]


@pytest.mark.parametrize(("status", "times"), [(403, 100), (500, 100)])
async def test_what_may_not_be_shown_is_said_and_fails_nothing(
    github: GithubStandIn, provider: GithubPages, status: int, times: int
) -> None:
    github.fault("status", "POST", "/deployments$", status=status, times=times, body=b"{}")

    ended = await deployed(provider, wanted())

    assert ended.last.stage == "built"
    assert sum("the repository's page does not show this deployment" in line for line in ended.lines) == 1


# Cancelling


async def test_a_run_that_does_not_listen_is_cancelled_by_force(github: GithubStandIn, provider: GithubPages) -> None:
    github.deaf_to_cancel = True
    request = wanted("endless")
    build = await provider.start_build(request)

    await provider.cancel_build(request, build)

    assert github.run_of(request.deployment_id).cancelled
    first, *_, last = [each.path.rpartition("/")[2] for each in github.asked("POST", "cancel$")]
    assert (first, last) == ("cancel", "force-cancel")
    assert (await told(provider, request, build))[-1].stage == "canceled"
    assert github.states() == [["in_progress", "error"]]


async def test_a_cancel_goes_on_through_faults(github: GithubStandIn, provider: GithubPages) -> None:
    request = wanted("endless")
    build = await provider.start_build(request)
    github.fault("lost", "POST", "/cancel$", times=2)
    github.fault("status", "GET", "/runs/", status=503)

    await patiently(partial(provider.cancel_build, request, build))

    assert github.run_of(request.deployment_id).cancelled
    assert not github.asked("POST", "force-cancel")


# Who we are


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def app(github: GithubStandIn, key: rsa.RSAPrivateKey) -> App:
    github.app_key, github.tokens = key.public_key(), set()
    form = (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return App("12345", key.private_bytes(*form).decode().replace("\n", "\\n"))


async def test_an_app_makes_one_token_and_renews_what_expires_or_is_refused(github: GithubStandIn, app: App) -> None:
    async with pages_of(github, token=None, app=app) as provider:
        await asyncio.gather(*(deployed(provider, wanted()) for _ in range(3)))
        assert github.made_tokens == 1
        assert github.asked("POST", "/access_tokens$")[0].json == {"repositories": [REPO]}

        request = wanted()
        build = await provider.start_build(request)
        stages = set()
        async for news in provider.follow_build(request, build, ""):
            if news.stage == "building" and "building" not in stages:
                github.tokens = set()  # in the middle of it
            stages.add(news.stage)
        assert "built" in stages
        assert github.made_tokens == 2

        github.tokens = set()
        await asyncio.gather(*(provider.start_build(wanted()) for _ in range(5)))
        assert github.made_tokens == 3


async def test_a_token_that_is_about_to_expire_is_not_used(github: GithubStandIn, app: App) -> None:
    github.token_seconds = 60
    async with pages_of(github, token=None, app=app) as provider:
        await provider.start_build(wanted())

    assert github.made_tokens == len(github.asked("GET", "/runs$")) + len(github.asked("POST", "/dispatches$"))


async def test_an_app_that_is_not_installed_says_so(github: GithubStandIn, app: App) -> None:
    github.fault("status", "GET", "/installation$", status=404, body=b'{"message": "Not Found"}')
    async with pages_of(github, token=None, app=app) as provider:
        error = await refusal(provider.start_build(wanted()))

    assert error.code == ErrorCode.INSUFFICIENT_PERMISSIONS
    assert "not installed on octo/site" in error.message


async def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(DeploymentError, match="PEM file"):
        App("1", "-----BEGIN NONSENSE-----")


async def test_the_projects_own_token_wins(github: GithubStandIn, provider: GithubPages) -> None:
    await provider.start_build(wanted(secrets={"GITHUB_TOKEN": "github_pat_of_the_project"}))
    await provider.start_build(wanted())

    used = [request.headers["authorization"] for request in github.asked("POST", "/dispatches$")]
    assert used == ["Bearer github_pat_of_the_project", f"Bearer {TOKEN}"]


async def test_no_credential_is_said(github: GithubStandIn) -> None:
    async with pages_of(github, token=None) as provider:
        error = await refusal(provider.start_build(wanted()))

    assert error.code == ErrorCode.INSUFFICIENT_PERMISSIONS
    assert "HEADWAY_GITHUB_TOKEN" in error.message


async def test_a_refused_token_is_not_told(github: GithubStandIn, provider: GithubPages) -> None:
    body = f'{{"message": "Bad credentials: {TOKEN}"}}'.encode()
    github.fault("status", status=401, body=body)

    error = await refusal(provider.start_build(wanted()))

    assert error.code == ErrorCode.INSUFFICIENT_PERMISSIONS
    assert TOKEN not in error.message


# Hostile or unwell


@pytest.mark.parametrize(
    ("path", "twist"),
    [
        (r"/runs/\d+$", lambda body: {}),
        (r"/runs/\d+$", lambda body: []),
        (r"/runs/\d+$", lambda body: {**body, "status": {"a": 1}}),
        (r"/runs/\d+$", lambda body: {**body, "head_sha": None}),
        (r"/jobs$", lambda body: {"jobs": "none"}),
        (r"/jobs$", lambda body: {"jobs": [{"id": "x"}]}),
        (r"/jobs$", lambda body: {"jobs": [{**job, "steps": [{"name": 1}]} for job in body["jobs"]]}),
        (r"/pages/deployments/", lambda body: 7),
        (r"/pages$", lambda body: {"html_url": ["https://example.org"]}),
        (r"/deployments$", lambda body: [{"id": None}]),
    ],
)
async def test_an_answer_that_does_not_fit_is_an_error_that_passes(
    github: GithubStandIn, provider: GithubPages, path: str, twist: Callable[[Any], Any]
) -> None:
    github.fault("twisted", "GET", path, times=2, twist=twist)

    ended = await deployed(provider, wanted())

    assert ended.last.stage == "built"
    assert ended.lines.count("added 3 packages") == 1


async def test_names_and_links_that_are_hostile_do_no_harm(github: GithubStandIn, provider: GithubPages) -> None:
    def twist(body: Any) -> Any:
        for job in body["jobs"]:
            job |= {"name": "a\n\x1b[2J" + "b" * 9000, "html_url": "javascript:alert(1)"}
        return body

    github.fault("twisted", "GET", "/jobs$", times=100, twist=twist)
    github.fault("twisted", "GET", r"/runs/\d+$", times=100, twist=lambda body: {**body, "html_url": "javascript:x"})
    github.logs_missing = 1000
    ended = await deployed(provider, wanted())
    github.page = {"html_url": "javascript:alert(1)", "build_type": "workflow"}

    assert ended.build is not None
    publication = await provider.publish_build(ended.request, ended.build)
    result = await provider.collect_report(ended.request, ended.build)

    everything = f"{ended.news} {publication} {result}"
    assert "javascript:" not in everything
    assert "\\x1b[2J" not in everything
    assert max(len(line) for line in ended.lines) < 500
    assert publication.deployment_url is None
    assert result.artifact_urls == []


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (429, {}, b"<html>Whoa there!</html>"),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-limit": "5000"}, b'{"message": "API rate limit exceeded"}'),
        (403, {"retry-after": "1"}, b'{"message": "You have exceeded a secondary rate limit"}'),
        (403, {}, b'{"message": "You have exceeded a secondary rate limit. Please wait"}'),
    ],
)
async def test_a_limit_is_waited_for_and_ends_nothing(
    github: GithubStandIn, provider: GithubPages, status: int, headers: dict[str, str], body: bytes
) -> None:
    github.fault("status", "POST", "/dispatches$", status=status, headers=headers, body=body)

    with pytest.raises(DeploymentError) as limited:
        await provider.start_build(wanted())

    assert limited.value.code == ErrorCode.RATE_LIMITED
    assert limited.value.retry_after_seconds
    assert not github.runs


async def test_the_hourly_limit_is_no_reason_to_wait_while_something_is_left_of_it(
    github: GithubStandIn, provider: GithubPages
) -> None:
    headers = {"x-ratelimit-remaining": "4000", "x-ratelimit-reset": str(int(time.time()) + 3000)}
    for status, body in ((403, b'{"message": "You have exceeded a secondary rate limit"}'), (502, b"")):
        github.fault("status", "GET", status=status, headers=headers, body=body)
        with pytest.raises(DeploymentError) as failed:
            await provider.start_build(wanted())

        assert (failed.value.retry_after_seconds or 0) <= 70


async def test_a_repository_that_moved_says_so(github: GithubStandIn, provider: GithubPages) -> None:
    github.fault("status", status=301, headers={"location": f"{github.url}/repositories/1"}, body=b"{}")

    assert "has moved" in (await refusal(provider.start_build(wanted()))).message


async def test_an_answer_without_end_is_an_error_that_passes(github: GithubStandIn, provider: GithubPages) -> None:
    github.fault("huge", "GET", r"/runs/\d+$", size=64 * 1024 * 1024)

    assert (await deployed(provider, wanted())).last.stage == "built"


async def test_deployments_end_right_though_a_third_of_all_calls_fails(github: GithubStandIn) -> None:
    github.chaos = random.Random(7)
    requests = [wanted("broken" if n % 6 == 0 else "main") for n in range(24)]

    async with pages_of(github, pace=replace(QUICK, log=30, gone=30, pages=30)) as provider:
        ended = await asyncio.gather(*(deployed(provider, request) for request in requests))

    assert [each.last.stage for each in ended] == ["failed" if n % 6 == 0 else "built" for n in range(24)]
    assert github.creates == {request.deployment_id: 1 for request in requests}
    good = [each.lines for n, each in enumerate(ended) if n % 6]
    assert all(lines.count("added 3 packages") == 1 for lines in good)
    assert all(lines.count("GitHub Pages has deployed") == 1 for lines in good)
    assert len(github.deployments) == len({str(each["payload"]) for each in github.deployments})
    assert github.chaos_happened > 100


async def test_an_outage_is_waited_for_and_said(github: GithubStandIn) -> None:
    request = wanted()
    async with pages_of(github) as provider:
        build = await provider.start_build(request)
        outage = github.fault("status", times=10_000, status=503)
        heard: list[BuildNews] = []
        async for news in provider.follow_build(request, build, ""):
            heard.append(news)
            if "waiting for github-pages since" in (news.waiting or ""):
                outage.times = 0

    assert {news.stage for news in heard[:-1]} <= {"initializing", "building"}
    assert any("answered 503" in (news.waiting or "") for news in heard)
    assert outage.times == 0
    assert heard[-1].stage == "built"
    assert github.creates == {request.deployment_id: 1}


async def test_an_outage_is_not_taken_from_the_time_that_a_page_has_to_show_up(github: GithubStandIn) -> None:
    github.pages_words[github.heads["main"]] = [None, None, "succeed"]
    request = wanted()
    async with pages_of(github) as provider:
        build = await provider.start_build(request)
        away = back = 0.0
        github.fault("status", times=10_000, status=503, when=lambda: away <= time.monotonic() < back)
        async for news in provider.follow_build(request, build, ""):
            if not away and "does not show the deployment yet" in (news.waiting or ""):
                away, back = time.monotonic(), time.monotonic() + 2 * QUICK.pages
    assert away
    assert news.stage == "built"


async def test_a_wake_ends_the_pause(github: GithubStandIn) -> None:
    class Woken:
        async def wait(self, timeout: float) -> None:
            assert timeout == 3600

    @asynccontextmanager
    async def watch(deployment_id: str) -> AsyncIterator[Woken]:
        assert deployment_id == request.deployment_id
        yield Woken()

    request = wanted()
    async with pages_of(github, watch=watch, pace=Pace(poll=3600)) as provider:
        assert (await deployed(provider, request)).last.stage == "built"


async def test_polls_of_what_has_not_changed_are_not_counted(github: GithubStandIn, provider: GithubPages) -> None:
    request = wanted("endless")
    build = await provider.start_build(request)
    heard = 0
    async with aclosing(provider.follow_build(request, build, "")) as all_news:
        async for _ in all_news:
            heard += 1
            if heard == 40:
                break

    asked = github.asked("GET", r"/runs/\d+$")
    assert len(asked) > 5
    assert all("if-none-match" in request.headers for request in asked[1:])


# What is written about it


def test_the_example_is_a_workflow_that_takes_what_we_send() -> None:
    text = (ROOT / "examples/github-pages/.github/workflows/deploy.yml").read_text()
    workflow = yaml.safe_load(text)

    assert set(workflow[True]["workflow_dispatch"]["inputs"]) == INPUTS  # YAML reads `on` as true
    assert "${{ inputs.deployment_id }}" in workflow["run-name"]
    assert workflow["jobs"]["build"]["steps"][0]["with"]["ref"] == "${{ inputs.ref }}"
    assert workflow["jobs"]["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}


@pytest.mark.parametrize("words", [CONCLUSIONS, WAITS, PAGES, PAGES_WAITS])
def test_every_word_is_in_the_document(words: dict[str, Any]) -> None:
    text = (ROOT / "docs/github-pages.md").read_text()

    assert [word for word in words if word and f"`{word}`" not in text] == []


# Builds from a branch


@pytest.fixture
def branch(github: GithubStandIn) -> BuildRequest:
    github.page = {
        "build_type": "legacy",
        "html_url": "https://octo.github.io/site/",
        "source": {"branch": "main", "path": "/"},
    }
    return wanted(settings=BRANCH)


async def test_a_branch_is_built_once_and_told(
    github: GithubStandIn, provider: GithubPages, branch: BuildRequest
) -> None:
    builds = [await provider.start_build(branch) for _ in range(3)]
    ended = await deployed(provider, branch)
    builds.append(await provider.start_build(branch))

    assert builds == [builds[0]] * 4
    assert github.creates == {github.heads["main"]: 1}
    assert ended.last.stage == "built"
    assert ended.lines == [
        "GitHub has no log of builds from a branch: it tells how they end",
        f"GitHub Pages builds commit {github.heads['main'][:12]} of main",
        "GitHub Pages has built and published the branch",
    ]
    assert (await provider.publish_build(branch, builds[0])).deployment_url == "https://octo.github.io/site/"
    assert (await provider.collect_report(branch, builds[0])).metrics.build_time == 2.104
    assert github.states() == [["in_progress", "success"]]


async def test_a_branch_follower_resumes_from_any_cursor(
    github: GithubStandIn, provider: GithubPages, branch: BuildRequest
) -> None:
    ended = await deployed(provider, branch)
    before: list[str] = []
    assert ended.build is not None

    for part in ended.news[:-1]:
        before += messages([part])
        assert before + messages(await told(provider, branch, ended.build, part.cursor)) == ended.lines


async def test_a_lost_answer_makes_no_second_build_of_a_branch(
    github: GithubStandIn, provider: GithubPages, branch: BuildRequest
) -> None:
    github.fault("lost", "POST", "/builds$", times=5)

    assert (await deployed(provider, branch)).last.stage == "built"
    assert github.creates == {github.heads["main"]: 1}


async def test_the_build_of_an_earlier_deployment_is_not_taken(
    github: GithubStandIn, provider: GithubPages, branch: BuildRequest
) -> None:
    github.builds.append(PageBuild(1, github.heads["main"], created=time.time() - 60, words=["errored"]))

    assert (await deployed(provider, branch)).last.stage == "built"


async def test_a_branch_that_cannot_be_built_says_why(
    github: GithubStandIn, provider: GithubPages, branch: BuildRequest
) -> None:
    github.build_words = ["queued", "brand_new", "errored"]

    ended = await deployed(provider, branch)

    assert ended.last.stage == "failed"
    assert ended.last.failure is not None
    assert "Liquid syntax error" in ended.last.failure.message
    assert "GitHub Pages says 'brand_new'" in ended.waits


async def test_a_branch_build_that_never_shows_up_ends(
    github: GithubStandIn, provider: GithubPages, branch: BuildRequest
) -> None:
    github.fault("twisted", "GET", "/builds$", times=10_000, twist=lambda _: [])

    assert (await deployed(provider, branch)).last.stage == "failed"
    never = Build(deployment_id="x", project_id="x", environment="x", build_id="gone")
    assert (await told(provider, branch, never))[-1].stage == "failed"


async def test_cancelling_a_branch_build_waits_for_its_end(
    github: GithubStandIn, provider: GithubPages, branch: BuildRequest
) -> None:
    build = await provider.start_build(branch)

    await provider.cancel_build(branch, build)

    assert github.builds[0].words == ["built"]


@pytest.mark.parametrize("changes", [{"source_ref": "broken"}, {"commit_sha": "1" * 40}])
async def test_what_a_branch_site_cannot_deploy_is_refused(
    provider: GithubPages, branch: BuildRequest, changes: dict[str, str]
) -> None:
    error = await refusal(provider.start_build(branch.model_copy(update=changes)))

    assert error.code == ErrorCode.INVALID_SOURCE_REF
    assert "accepted is 'main'" in error.message


@pytest.mark.parametrize("page", [None, {"build_type": "workflow"}])
async def test_a_page_that_is_not_built_from_a_branch_is_refused(
    github: GithubStandIn, provider: GithubPages, branch: BuildRequest, page: dict[str, Any] | None
) -> None:
    github.page = page

    assert (await refusal(provider.start_build(branch))).code == ErrorCode.INVALID_REQUEST
    assert not github.builds
