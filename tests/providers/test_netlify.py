"""The `netlify` provider keeps the promise of all providers, and gets along with Netlify's oddities, on a stand-in."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.errors import DeploymentError, ErrorCode
from domain.fence import Overtaken
from domain.log import LogLevel
from providers.base import Build, BuildNews, BuildRequest
from providers.http import Options
from providers.netlify.pace import Pace
from providers.netlify.provider import Netlify
from tests.providers.conformance import ProviderConformance, messages, told
from tests.providers.conftest import build_request, overtaken
from tests.providers.netlify_stand_in import ACCOUNT, COMMIT, LINES, SITE, TOKEN, Made, NetlifyStandIn
from tests.providers.stand_in import in_the_end

QUICK = Pace(
    look=0.02,
    find=(0.01, 0.01, 0.01),
    publish=0.1,
    read_back=0.02,
    patience=5,
    log=(0.01, 0.01),
    uploads=(0.01, 0.01, 0.01, 0.01),
)
SETTINGS = {"siteId": SITE, "mode": "git"}
FILES = {"siteId": SITE, "mode": "files"}
BUILT = ["netlify builds it", "netlify takes over what was built"]


def asked_for(ref: str, **more: Any) -> BuildRequest:
    asked = {"settings": SETTINGS, "environment": "staging", **more}
    return build_request("https://github.com/acme/shop.git", ref=ref, **asked)


def production(ref: str = "well", **more: Any) -> BuildRequest:
    return asked_for(ref, environment="production", **more)


@pytest.fixture
async def server() -> AsyncIterator[NetlifyStandIn]:
    async with NetlifyStandIn().running() as server:
        yield server


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """What was built of a small site."""
    return write(tmp_path / "release", {"index.html": "hello", "css/site.css": "a {}", "again.html": "hello"})


@pytest.fixture
async def netlify(server: NetlifyStandIn, tmp_path: Path) -> AsyncIterator[Netlify]:
    """Built is what a test has put into a directory of the deployment's id, or of `release`."""

    def releases(deployment_id: str) -> Path | None:
        places = (tmp_path / deployment_id, tmp_path / "release")
        return next((place for place in places if place.exists()), None)

    netlify = made(server, releases=releases)
    yield netlify
    await netlify.close()


def made(server: NetlifyStandIn, pace: Pace = QUICK, **more: Any) -> Netlify:
    return Netlify(TOKEN, server.url, Options(allow_private_addresses=True), pace=pace, **more)


def sha1(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


class TestGit(ProviderConformance):
    @pytest.fixture
    def provider(self, netlify: Netlify) -> Netlify:
        return netlify

    @pytest.fixture
    def well(self) -> BuildRequest:
        return production()

    @pytest.fixture
    def failing(self) -> BuildRequest:
        return asked_for("failing")

    @pytest.fixture
    def endless(self) -> BuildRequest:
        return asked_for("endless")


class TestFiles(ProviderConformance):
    @pytest.fixture
    def provider(self, netlify: Netlify) -> Netlify:
        return netlify

    @pytest.fixture
    def well(self, tmp_path: Path) -> BuildRequest:
        return self._release(tmp_path, "index.html", environment="production")

    @pytest.fixture
    def failing(self, tmp_path: Path) -> BuildRequest:
        return self._release(tmp_path, "failing.html")

    @pytest.fixture
    def endless(self, tmp_path: Path) -> BuildRequest:
        return self._release(tmp_path, "endless.html")

    @staticmethod
    def _release(tmp_path: Path, name: str, **more: Any) -> BuildRequest:
        request = asked_for("main", settings=FILES, **more)
        write(tmp_path / request.deployment_id, {name: "hello", "css/site.css": "a {}"})
        return request


async def frozen(netlify: Netlify, server: NetlifyStandIn, **more: Any) -> tuple[BuildRequest, Build, Made]:
    """A deploy that stays as the test leaves it."""
    if more.get("environment") == "production":
        server.production_branch = "frozen"
    request = asked_for("frozen", **more)
    build = await netlify.start_build(request)
    return request, build, server.made[build.build_id]


async def seen(netlify: Netlify, request: BuildRequest, build: Build, *, until: Any) -> BuildNews:
    """The first news that are as `until` wants them."""
    async with asyncio.timeout(20):
        async for news in netlify.follow_build(request, build, ""):
            if until(news):
                return news
    raise AssertionError("the news ended before")


async def refusal(netlify: Netlify, request: BuildRequest) -> DeploymentError:
    with pytest.raises(DeploymentError) as refused:
        await netlify.start_build(request)
    return refused.value


# Starting from git


async def test_a_build_is_asked_for_by_branch_with_our_id_as_its_title(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    first, second = asked_for("frozen"), asked_for("frozen", settings={**SETTINGS, "clearCache": True})
    await netlify.start_build(first)
    await netlify.start_build(second)

    asked = [sent.query for sent in server.asked("POST", f"^/sites/{SITE}/builds$")]
    assert asked == [
        {"branch": "frozen", "title": f"Headway {first.deployment_id}"},
        {"branch": "frozen", "title": f"Headway {second.deployment_id}", "clear_cache": "true"},
    ]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (asked_for("c0ffee" + "0" * 34), "a branch"),
        (production(skip_deploy=True), "skipDeploy"),
        (asked_for("main", settings=FILES | {"siteId": "unknown"}), "mode git"),
    ],
)
async def test_what_netlify_cannot_do_is_refused_before_anything_is_made(
    netlify: Netlify, server: NetlifyStandIn, request_: BuildRequest, said: str
) -> None:
    refused = await refusal(netlify, request_)

    assert refused.code == ErrorCode.INVALID_REQUEST
    assert said in refused.message
    assert server.made == {}


@pytest.mark.parametrize(
    ("ref", "environment", "branch"), [("well", "staging", "well"), ("well", "production", "main"), ("x", "y", None)]
)
async def test_a_branch_goes_where_netlify_would_publish_it_or_nowhere(
    netlify: Netlify, server: NetlifyStandIn, ref: str, environment: str, branch: str | None
) -> None:
    server.production_branch = branch

    assert (await refusal(netlify, asked_for(ref, environment=environment))).code == ErrorCode.INVALID_REQUEST
    assert server.made == {}


@pytest.mark.parametrize(
    ("settings", "pointer"),
    [
        ({"mode": "git"}, "/providerSettings/siteId"),
        ({"siteId": SITE}, "/providerSettings/mode"),
        ({**SETTINGS, "mode": "zip"}, "/providerSettings/mode"),
        ({**SETTINGS, "siteID": "x"}, "/providerSettings/siteID"),
        ({**SETTINGS, "siteId": "../x"}, "/providerSettings/siteId"),
        ({**SETTINGS, "accountId": 7}, "/providerSettings/accountId"),
        ({**SETTINGS, "logs": "perhaps"}, "/providerSettings/logs"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(settings: dict[str, Any], pointer: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        Netlify.check_settings(settings, None)

    assert refused.value.code == ErrorCode.INVALID_REQUEST
    assert [field for field, _ in refused.value.fields] == [pointer]


async def test_a_token_of_the_project_wins_and_a_wrong_one_is_said_plainly(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    refused = await refusal(netlify, asked_for("well", secrets={"NETLIFY_TOKEN": "another-token"}))
    assert refused.code == ErrorCode.INSUFFICIENT_PERMISSIONS
    assert "another-token" not in str(refused)

    nobody = Netlify(None, server.url, Options(allow_private_addresses=True))
    assert "NETLIFY_TOKEN" in (await refusal(nobody, asked_for("well"))).message
    await nobody.close()


# Variables


async def test_variables_are_set_for_the_context_that_builds_and_others_stay(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    old = [{"context": "dev", "value": "red"}, {"context": "production", "value": "green"}]
    server.variables = {key: {"key": key, "values": list(old)} for key in ("COLOUR", "SHAPE")}
    server.production_branch = "frozen"
    request = production(
        "frozen",
        settings={**SETTINGS, "accountId": ACCOUNT},
        environment_variables={"COLOUR": "blue", "SHAPE": "green"},
        secrets={"DATABASE": "a-secret-password", "NETLIFY_TOKEN": TOKEN},
    )

    await netlify.start_build(request)

    assert server.variables["COLOUR"]["values"] == [old[0], {"context": "production", "value": "blue"}]
    assert server.variables["DATABASE"]["is_secret"]
    assert server.variables["DATABASE"]["values"] == [{"context": "production", "value": "a-secret-password"}]
    assert "NETLIFY_TOKEN" not in server.variables
    assert [sent.path.rpartition("/")[2] for sent in server.asked("PATCH", "/env/")] == ["COLOUR"]
    assert all(sent.query == {"site_id": SITE} for sent in server.asked("", "/env") if sent.method != "GET")


async def test_variables_of_a_branch_are_for_that_branch_alone(netlify: Netlify, server: NetlifyStandIn) -> None:
    settings = {**SETTINGS, "accountId": ACCOUNT}
    await netlify.start_build(asked_for("frozen", settings=settings, environment_variables={"COLOUR": "blue"}))

    where = {"context": "branch", "context_parameter": "frozen"}
    assert server.variables["COLOUR"]["values"] == [{**where, "value": "blue"}]


async def test_a_lost_answer_to_new_variables_starts_no_build_and_the_next_try_goes_on(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    server.fault("lost", "POST", "/env$")
    settings = {**SETTINGS, "accountId": ACCOUNT}
    request = asked_for("frozen", settings=settings, secrets={"DATABASE": "a-secret-password"})

    assert (await refusal(netlify, request)).retryable
    assert server.made == {}
    await netlify.start_build(request)
    assert server.creates[request.deployment_id] == 1


async def test_without_an_account_variables_are_left_out_and_that_is_said_once(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    request = asked_for("well-not", secrets={"DATABASE": "a-secret-password"})
    build = await netlify.start_build(request)
    server.made[build.build_id].becomes("ready")

    news = await told(netlify, request, build)

    first = next(line for part in news for line in part.lines)
    assert first.level == LogLevel.WARN
    assert "accountId" in first.message
    assert server.variables == {}
    assert all(b"a-secret-password" not in sent.body for sent in server.requests)


# One intent, one build


@pytest.mark.parametrize("list_lags", [0, 1, 3])
@pytest.mark.parametrize("kind", ["lost", "status", "reset"])
@pytest.mark.parametrize("settings", [SETTINGS, FILES])
@pytest.mark.usefixtures("release")
async def test_however_often_an_answer_is_lost_there_is_one_deploy(
    netlify: Netlify, server: NetlifyStandIn, settings: dict[str, Any], kind: str, list_lags: int
) -> None:
    server.list_lags = list_lags
    server.fault(kind, "POST", f"^/sites/{SITE}/(builds|deploys)$", times=3)
    request = asked_for("frozen", settings=settings)

    build = await in_the_end(lambda: netlify.start_build(request))

    assert server.creates == {request.deployment_id: 1}
    assert list(server.made) == [build.build_id]


async def test_an_unknown_outcome_is_waited_for_long_enough(netlify: Netlify, server: NetlifyStandIn) -> None:
    server.list_lags = 100
    server.fault("lost", "POST", "/builds$")

    unknown = await refusal(netlify, asked_for("frozen"))

    assert unknown.retryable
    assert (unknown.retry_after_seconds or 0) >= 10
    assert len(server.asked("GET", "/deploys$")) == 1 + 1 + len(QUICK.find)


async def test_a_build_whose_deploy_is_not_named_is_looked_up(netlify: Netlify, server: NetlifyStandIn) -> None:
    server.fault("twisted", "POST", "/builds$", twist=lambda body: {**body, "deploy_id": None})

    build = await netlify.start_build(asked_for("frozen"))

    assert list(server.made) == [build.build_id]


async def test_a_deploy_is_found_on_any_page_and_the_first_of_a_title_counts(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    request = asked_for("frozen")
    build = await netlify.start_build(request)
    server.made |= {f"other{n}": Made(f"other{n}", "", "frozen", production=False) for n in range(150)}
    server.made["again"] = Made("again", f"Headway {request.deployment_id}", "frozen", production=False)

    assert await netlify.start_build(request) == build
    assert [sent.query["page"] for sent in server.asked("GET", "/deploys$")] == ["1", "1", "2"]


async def test_a_limit_says_when_to_come_again_and_nobody_asks_before(netlify: Netlify, server: NetlifyStandIn) -> None:
    reset = int((datetime.now(UTC) + timedelta(seconds=40)).timestamp())
    headers = {"x-ratelimit-limit": "3", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(reset)}
    server.fault("status", "POST", "/builds$", status=429, headers=headers, body=b'{"code": 429, "message": "slow"}')

    limited = await refusal(netlify, asked_for("frozen"))
    again = await refusal(netlify, asked_for("frozen"))

    assert (limited.code, again.code) == (ErrorCode.RATE_LIMITED, ErrorCode.RATE_LIMITED)
    assert all(30 <= (error.retry_after_seconds or 0) <= 50 for error in (limited, again))
    assert len(server.asked("POST", "/builds$")) == 1


async def test_faults_of_every_kind_delay_a_deployment_and_change_nothing(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    for method, path in (("GET", "^/deploys/d"), ("GET", "/log$"), ("GET", "/deploys$"), ("POST", "/builds$")):
        server.fault("status", method, path, status=502)
        server.fault("reset", method, path)
        server.fault("lost", method, path)
    request = production()

    build = await in_the_end(lambda: netlify.start_build(request))
    news = await told(netlify, request, build)

    assert messages(news) == [*BUILT, *(f"line {number}" for number in range(LINES))]
    assert news[-1].stage == "built"
    assert server.creates == {request.deployment_id: 1}


# Following


@pytest.mark.parametrize(
    ("state", "waiting"),
    [("new", "queued"), ("enqueued", "queued"), ("pending_review", "accept"), ("retrying", "again")],
)
async def test_what_it_waits_for_is_said_plainly(
    netlify: Netlify, server: NetlifyStandIn, state: str, waiting: str
) -> None:
    request, build, made = await frozen(netlify, server)
    made.becomes(state)

    news = await seen(netlify, request, build, until=lambda news: waiting in (news.waiting or ""))

    assert (news.stage, news.step) == ("initializing", state)


@pytest.mark.parametrize("word", ["teleporting", "", "READY", None])
async def test_an_unknown_word_is_not_final_and_is_passed_on(
    netlify: Netlify, server: NetlifyStandIn, word: str | None
) -> None:
    request, build, _ = await frozen(netlify, server)
    server.fault("twisted", "GET", "^/deploys/", times=1000, twist=lambda body: {**body, "state": word})

    news = await seen(netlify, request, build, until=lambda news: repr(word or "") in (news.waiting or ""))

    assert news.stage == "initializing"


CHECKING = "Failed during stage 'checking build content for changes': "


@pytest.mark.parametrize(
    ("last_words", "end", "said"),
    [
        (
            {"state": "error", "error_message": "Canceled build due to no content change"},
            "canceled",
            "no content change",
        ),
        (
            {"state": "error", "error_message": CHECKING + "Canceled build due to no content change"},
            "canceled",
            CHECKING,
        ),
        ({"state": "error", "error_message": "Build was cancelled by user"}, "canceled", "by user"),
        ({"state": "error", "error_message": "Skipped"}, "canceled", "Skipped"),
        ({"state": "error", "error_message": "skipped tests count as failures"}, "failed", "skipped tests"),
        ({"state": "error", "skipped": True}, "canceled", "skipped"),
        ({"state": "new", "skipped": True}, "canceled", "skipped"),
        ({"state": "rejected"}, "canceled", "refused"),
        (
            {"state": "error", "error_message": "Failed during stage 'building site': exit code: 2"},
            "failed",
            "exit code: 2",
        ),
        ({"state": "error", "error_message": "the test 'cancel an order' failed"}, "failed", "cancel an order"),
        ({"state": "error"}, "failed", "without saying why"),
    ],
)
async def test_each_end_is_told_with_its_reason(
    netlify: Netlify, server: NetlifyStandIn, last_words: dict[str, Any], end: str, said: str
) -> None:
    request, build, made = await frozen(netlify, server)
    made.becomes(**last_words)

    last = (await told(netlify, request, build))[-1]

    assert last.stage == end
    assert last.failure is not None
    assert last.failure.code == (ErrorCode.CANCELED if end == "canceled" else ErrorCode.BUILD_FAILED)
    assert said in last.failure.message
    assert last.failure.hint == f"see https://app.netlify.com/sites/shop/deploys/{build.build_id}"


async def test_a_failure_has_its_stage_and_the_end_of_the_log(netlify: Netlify) -> None:
    request = asked_for("failing")

    news = await told(netlify, request, await netlify.start_build(request))

    assert news[-1].failure is not None
    assert news[-1].failure.phase == "building site"
    assert news[-1].failure.log_excerpt[-1] == "the page has no title"
    last = [line for part in news for line in part.lines][-1]
    assert (last.level, last.step, last.source) == (LogLevel.ERROR, "building", "build")
    assert news[-1].repository is not None
    assert news[-1].repository.commit == COMMIT


async def test_a_log_that_cannot_be_had_is_said_and_fails_nothing(netlify: Netlify, server: NetlifyStandIn) -> None:
    server.has_logs = False
    request = production()
    build = await netlify.start_build(request)

    news = await told(netlify, request, build)

    assert news[-1].stage == "built"
    *before, last = messages(news)
    assert before == BUILT
    assert "netlify offers no log API" in last
    assert f"https://app.netlify.com/sites/shop/deploys/{build.build_id}" in last
    server.has_logs = True
    assert messages(await told(netlify, request, build, news[-1].cursor)) == []


async def test_log_reading_can_be_switched_off(netlify: Netlify, server: NetlifyStandIn) -> None:
    request = production(settings={**SETTINGS, "logs": False})

    news = await told(netlify, request, await netlify.start_build(request))

    assert messages(news) == BUILT
    assert server.asked("GET", "/log$") == []


async def test_what_cannot_be_read_of_the_log_is_said_in_it(netlify: Netlify, server: NetlifyStandIn) -> None:
    request, build, made = await frozen(netlify, server)
    moments: list[Any] = ["yesterday", 1_700_000_000_000, 1e300, None, "2026-11-23T10:00:00"]
    made.log = [{"ts": ts, "message": f"at {ts}"} for ts in moments]
    made.log += [{"ts": 1, "message": ["?"]}, {"ts": 1}, None, 7]  # type: ignore[list-item]
    made.becomes("ready")

    lines = messages(await told(netlify, request, build))

    assert lines == [*BUILT, *(f"at {ts}" for ts in moments), "4 records of netlify's log could not be read"]


async def test_an_outage_is_waited_for_and_said(server: NetlifyStandIn) -> None:
    netlify = made(server, replace(QUICK, look=0.5))
    request, build, deploy = await frozen(netlify, server)
    outage = server.fault("status", "GET", "^/deploys/", times=1000, status=502)

    news = await seen(netlify, request, build, until=lambda news: "502" in (news.waiting or ""))
    assert news.stage == "initializing"

    outage.times = 0
    deploy.becomes("ready")
    assert (await told(netlify, request, build))[-1].stage == "built"
    await netlify.close()


async def test_an_outage_after_the_end_of_a_build_takes_nothing_from_its_log(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    request, build, deploy = await frozen(netlify, server)
    deploy.write("all is well")
    deploy.becomes("ready")
    path = "^/deploys/[^/]+$"
    reads = server.fault("status", "GET", path, times=4, status=503, when=lambda: len(server.asked("GET", path)) > 1)
    server.fault("status", "GET", "/log$", times=1000, status=503, when=lambda: reads.happened < 4)

    news = await told(netlify, request, build)

    assert messages(news)[-1] == "all is well"
    assert news[-1].stage == "built"


async def test_following_ends_when_the_credential_is_taken_away(netlify: Netlify, server: NetlifyStandIn) -> None:
    request, build, _ = await frozen(netlify, server)
    server.fault("status", "GET", "^/deploys/", times=1000, status=401, body=b"{}")

    with pytest.raises(DeploymentError) as failed:
        await told(netlify, request, build)

    assert failed.value.code == ErrorCode.INSUFFICIENT_PERMISSIONS


async def test_another_commit_than_the_one_asked_for_is_stopped(netlify: Netlify, server: NetlifyStandIn) -> None:
    request, build, made = await frozen(netlify, server, commit="b" * 40)
    made.becomes("building")

    last = (await told(netlify, request, build))[-1]

    assert made.state == "error"
    assert last.stage == "failed"
    assert last.failure is not None
    assert COMMIT in last.failure.message
    assert "b" * 40 in last.failure.message

    right, build, made = await frozen(netlify, server, commit=COMMIT)
    made.becomes("ready")
    assert (await told(netlify, right, build))[-1].stage == "built"


# Hostile answers


@pytest.mark.parametrize(
    "twist",
    [
        lambda _: [],
        lambda _: None,
        lambda body: {**body, "id": None},
        lambda body: {**body, "state": ["ready"]},
        lambda body: {**body, "required": "x"},
        lambda body: {**body, "created_at": "yesterday"},
        lambda body: {key: value for key, value in body.items() if key != "id"},
    ],
)
async def test_an_answer_that_does_not_fit_is_a_plain_error(
    netlify: Netlify, server: NetlifyStandIn, twist: Any
) -> None:
    request, build, made = await frozen(netlify, server)
    made.becomes("ready")
    server.fault("twisted", "GET", "^/deploys/", twist=twist)

    with pytest.raises(DeploymentError) as failed:
        await netlify.publish_build(request, build)

    assert failed.value.code == ErrorCode.PROVIDER_ERROR
    assert "asked to read the deploy" in failed.value.message


async def test_a_huge_answer_is_a_plain_error(netlify: Netlify, server: NetlifyStandIn) -> None:
    request, build, made = await frozen(netlify, server)
    made.becomes("ready")
    server.fault("huge", "GET", "^/deploys/[^/]+$")

    with pytest.raises(DeploymentError, match="more than 10485760 bytes"):
        await netlify.publish_build(request, build)

    server.fault("huge", "GET", "/log$", times=3)
    news = await told(netlify, request, build)
    assert news[-1].stage == "built"
    assert "more than" in messages(news)[-1]


async def test_links_that_are_none_are_left_out(netlify: Netlify, server: NetlifyStandIn) -> None:
    request, build, made = await frozen(netlify, server, environment="production")
    made.becomes("ready")
    names = ("url", "ssl_url", "deploy_url", "deploy_ssl_url", "admin_url")
    bad = dict.fromkeys(names, "javascript:alert(1)")
    server.fault("twisted", "GET", "", times=1000, twist=lambda body: {**body, **bad} if body else body)

    publication = await netlify.publish_build(request, build)
    report = await netlify.collect_report(request, build)

    assert (publication.deployment_url, publication.preview_urls, report.artifact_urls) == (None, [], [])
    made.becomes("error")
    last = (await told(netlify, request, build))[-1]
    assert last.failure is not None
    assert last.failure.hint is None


# Making live


async def test_a_production_deploy_has_the_sites_address_and_its_own(netlify: Netlify, server: NetlifyStandIn) -> None:
    request = production()
    build = await netlify.start_build(request)
    assert (await told(netlify, request, build))[-1].stage == "built"
    assert server.live == build.build_id

    publication = await netlify.publish_build(request, build)

    assert publication.deployment_url == "https://shop.example.org"
    assert publication.preview_urls == [f"https://{build.build_id}--shop.netlify.app"]
    assert server.asked("POST", "/restore$") == []


async def test_a_branch_has_its_own_address_and_the_site_stays(netlify: Netlify, server: NetlifyStandIn) -> None:
    request, build, made = await frozen(netlify, server)
    made.becomes("ready")

    publication = await netlify.publish_build(request, build)

    assert publication.deployment_url == f"https://{build.build_id}--shop.netlify.app"
    assert (await netlify.repoint(request, build)).deployment_url == publication.deployment_url
    assert (server.live, server.locked) == (None, False)


async def test_ready_is_not_live_until_the_site_serves_it(server: NetlifyStandIn) -> None:
    netlify = made(server, replace(QUICK, publish=60))
    request, build, deploy = await frozen(netlify, server, environment="production")
    deploy.becomes("ready")

    news = await seen(netlify, request, build, until=lambda news: "published" in (news.waiting or ""))
    assert news.stage == "building"

    server.live = build.build_id
    assert (await told(netlify, request, build))[-1].stage == "built"
    await netlify.close()


async def test_a_ready_deploy_that_netlify_does_not_publish_is_published_once(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    server.publishes = False
    request = production()
    build = await netlify.start_build(request)
    assert (await told(netlify, request, build))[-1].stage == "built"
    assert server.live is None
    server.fault("lost", "POST", "/restore$")

    await in_the_end(lambda: netlify.publish_build(request, build))
    await netlify.publish_build(request, build)

    assert server.live == build.build_id


async def test_a_locked_site_is_said_plainly_and_what_was_asked_for_goes_live(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    first, second = production(), production()
    builds = []
    for request in (first, second):
        builds.append(await netlify.start_build(request))
        news = await told(netlify, request, builds[-1])
        assert news[-1].stage == "built"
        server.locked = True
    assert server.live == builds[0].build_id
    locked = f"the site is locked to deploy {builds[0].build_id} at netlify"
    assert [line.level for part in news for line in part.lines if locked in line.message] == [LogLevel.WARN]

    publication = await netlify.publish_build(second, builds[1])

    assert server.live == builds[1].build_id
    assert server.locked
    assert locked in publication.lines[0].message


async def test_a_site_that_stays_locked_fails_the_deployment_and_says_why(server: NetlifyStandIn) -> None:
    netlify = made(server, replace(QUICK, patience=0.1))
    old, build, deploy = await frozen(netlify, server, environment="production")
    server.is_ready(deploy)
    server.locked, server.restores = True, False
    request, second, deploy = await frozen(netlify, server, environment="production")
    server.is_ready(deploy)

    with pytest.raises(DeploymentError) as failed:
        await netlify.publish_build(request, second)
    assert failed.value.code == ErrorCode.DEPLOY_FAILED
    assert f"locked to deploy {build.build_id}" in failed.value.message

    server.locked = False
    with pytest.raises(DeploymentError) as failed:
        await netlify.publish_build(request, second)
    assert failed.value.code == ErrorCode.UNAVAILABLE
    assert old.deployment_id != request.deployment_id
    await netlify.close()


async def test_an_earlier_deploy_is_live_again_and_locked_so_that_no_push_undoes_it(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    builds = []
    for request in (production(), production()):
        builds.append(await netlify.start_build(request))
        await told(netlify, request, builds[-1])
    with pytest.raises(Overtaken):
        await netlify.repoint(overtaken(production()), builds[0])
    assert server.live == builds[1].build_id
    server.fault("lost", "POST", "/restore$")

    publication = await in_the_end(lambda: netlify.repoint(production(), builds[0]))
    await netlify.repoint(production(), builds[0])

    assert (server.live, server.locked) == (builds[0].build_id, True)
    assert len(server.made) == 2
    assert publication.deployment_url == "https://shop.example.org"
    assert "no push undoes this" in publication.lines[-1].message


@pytest.mark.parametrize("refused", [True, False])
async def test_a_lock_that_does_not_hold_is_said(netlify: Netlify, server: NetlifyStandIn, refused: bool) -> None:
    request, build, deploy = await frozen(netlify, server, environment="production")
    server.is_ready(deploy)
    server.locks = False
    if refused:
        server.fault("status", "POST", "/lock$", status=403, body=b'{"message": "not on this plan"}')

    line = (await netlify.repoint(request, build)).lines[-1]

    assert line.level == LogLevel.WARN
    assert "the next push may undo this" in line.message
    assert ("not on this plan" in line.message) == refused


async def test_a_refused_publication_says_why_and_a_deploy_that_is_gone_too(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    request, build, deploy = await frozen(netlify, server, environment="production")
    deploy.becomes("processed")
    with pytest.raises(DeploymentError, match="it is not ready") as failed:
        await netlify.publish_build(request, build)
    assert failed.value.code == ErrorCode.DEPLOY_FAILED

    server.made.clear()
    with pytest.raises(DeploymentError, match="deploy its commit again") as failed:
        await netlify.repoint(request, build)
    assert failed.value.code == ErrorCode.DEPLOY_FAILED


# Files


async def test_files_are_handed_over_once_each_and_the_rest_is_known(
    netlify: Netlify, server: NetlifyStandIn, release: Path
) -> None:
    server.known = {sha1(release / "css/site.css")}
    request = production("main", settings=FILES)

    build = await netlify.start_build(request)
    assert (await told(netlify, request, build))[-1].stage == "built"

    body = server.asked("POST", "/deploys$")[0].json
    assert body["files"] == {path: sha1(release / path) for path in ("again.html", "css/site.css", "index.html")}
    assert (body["draft"], body["async"]) == (False, False)
    taken = server.made[build.build_id].taken
    assert sorted(taken) == ["again.html", "index.html"]
    assert taken["index.html"] == b"hello"
    assert server.live == build.build_id


async def test_many_files_are_compared_beside_and_survive_faults(
    netlify: Netlify, server: NetlifyStandIn, tmp_path: Path
) -> None:
    names = [f"deep/a b {number}/ü.html" for number in range(120)]
    write(tmp_path / "release", {name: f"page {name}" for name in names})
    server.fault("status", "PUT", "/files/", status=503)
    server.fault("reset", "PUT", "/files/")
    server.fault("lost", "PUT", "/files/")
    request = production("main", settings=FILES)

    build = await netlify.start_build(request)
    news = await told(netlify, request, build)

    assert server.asked("POST", "/deploys$")[0].json["async"]
    assert news[-1].stage == "built"
    assert sorted(server.made[build.build_id].taken) == sorted(names)


@pytest.mark.usefixtures("release")
async def test_what_is_not_for_production_is_a_draft_with_a_name(netlify: Netlify, server: NetlifyStandIn) -> None:
    request = asked_for("main", settings=FILES)
    build = await netlify.start_build(request)
    await told(netlify, request, build)
    await netlify.start_build(production("main", settings=FILES, skip_deploy=True))

    first, second = (sent.json for sent in server.asked("POST", "/deploys$"))
    assert (first["draft"], first["branch"]) == (True, "staging")
    assert second["draft"]
    assert server.live is None
    publication = await netlify.publish_build(request, build)
    assert publication.deployment_url == f"https://{build.build_id}--shop.netlify.app"


async def test_a_refused_file_ends_it_and_is_not_tried_again(
    netlify: Netlify, server: NetlifyStandIn, tmp_path: Path
) -> None:
    write(tmp_path / "release", {"index.html": "hello"})
    server.fault("status", "PUT", "/files/", status=422, body=b'{"code": 422, "message": "too large"}')
    request = production("main", settings=FILES)
    build = await netlify.start_build(request)

    with pytest.raises(DeploymentError, match="too large") as failed:
        await told(netlify, request, build)

    assert failed.value.code == ErrorCode.DEPLOY_FAILED
    assert len(server.asked("PUT", "/files/")) == 1


@pytest.mark.parametrize("files", [{}, {"what?.html": "x"}, {"a#b.html": "x"}])
async def test_files_that_netlify_does_not_take_are_refused(
    netlify: Netlify, server: NetlifyStandIn, tmp_path: Path, files: dict[str, str]
) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "link").symlink_to("/etc/passwd")
    write(tmp_path / "release", files)

    assert (await refusal(netlify, production("main", settings=FILES))).code == ErrorCode.BUILD_FAILED
    assert server.made == {}


@pytest.mark.usefixtures("release")
async def test_a_site_that_takes_git_alone_is_said(netlify: Netlify, server: NetlifyStandIn) -> None:
    server.git_only = True

    assert "mode git" in (await refusal(netlify, production("main", settings=FILES))).message
    assert server.made == {}


# What is left


async def test_a_report_has_the_time_the_address_and_the_framework(netlify: Netlify, server: NetlifyStandIn) -> None:
    request, build, made = await frozen(netlify, server)
    made.becomes("ready", deploy_time=159, framework="astro")

    report = await netlify.collect_report(request, build)

    assert (report.metrics.build_time, report.artifact_id, report.framework) == (159, build.build_id, "astro")
    assert report.artifact_urls == [f"https://{build.build_id}--shop.netlify.app"]


async def test_a_cancel_that_netlify_refuses_is_asked_until_it_has_ended(
    netlify: Netlify, server: NetlifyStandIn
) -> None:
    request, build, made = await frozen(netlify, server)
    server.fault("status", "GET", "^/deploys/", times=1, status=404, body=b"{}")
    server.fault("status", "POST", "/cancel$", times=2, status=422, body=b"{}")

    await netlify.cancel_build(request, build)

    assert made.state == "error"
    assert len(server.asked("POST", "/cancel$")) == 3
    assert (await told(netlify, request, build))[-1].stage == "canceled"
