"""The `vercel` provider keeps the promise of all providers, and gets along with Vercel's oddities, on a stand-in."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.errors import DeploymentError, ErrorCode
from domain.fence import Overtaken
from domain.log import LogLevel
from providers.base import Build, BuildNews, BuildRequest
from providers.http import Options
from providers.vercel.follow import Pace
from providers.vercel.provider import Vercel
from tests.providers.conformance import ProviderConformance, messages, told
from tests.providers.conftest import build_request, overtaken
from tests.providers.stand_in import Fault, in_the_end
from tests.providers.vercel_stand_in import LINES, PROJECT, TOKEN, Made, VercelStandIn
from tests.servers import eventually

QUICK = Pace(look=0.1, soonest=0.05, settle=0.02, reconnect=0.02)
SETTINGS = {"projectId": PROJECT, "gitSource": {"type": "github", "org": "acme", "repo": "shop"}}
MORNING = 1_700_000_000_000


def asked_for(ref: str, **more: Any) -> BuildRequest:
    asked = {"settings": SETTINGS, "environment": "production", **more}
    return build_request("https://github.com/acme/shop.git", ref=ref, **asked)


@pytest.fixture
async def server() -> AsyncIterator[VercelStandIn]:
    async with VercelStandIn().running() as server:
        yield server


@pytest.fixture
async def vercel(server: VercelStandIn) -> AsyncIterator[Vercel]:
    vercel = Vercel(TOKEN, server.url, Options(allow_private_addresses=True), pace=QUICK)
    yield vercel
    await vercel.close()


class TestVercel(ProviderConformance):
    @pytest.fixture
    def provider(self, vercel: Vercel) -> Vercel:
        return vercel

    @pytest.fixture
    def well(self) -> BuildRequest:
        return asked_for("well")

    @pytest.fixture
    def failing(self) -> BuildRequest:
        return asked_for("failing")

    @pytest.fixture
    def endless(self) -> BuildRequest:
        return asked_for("endless")


async def frozen(vercel: Vercel, server: VercelStandIn, **more: Any) -> tuple[BuildRequest, Build, Made]:
    """A deployment that stays as the test leaves it."""
    request = asked_for("frozen", **more)
    build = await vercel.start_build(request)
    return request, build, server.made[build.build_id]


async def seen(vercel: Vercel, request: BuildRequest, build: Build, *, until: Any) -> BuildNews:
    """The first news that are as `until` wants them."""
    async with asyncio.timeout(20):
        async for news in vercel.follow_build(request, build, ""):
            if until(news):
                return news
    raise AssertionError("the news ended before")


# Starting


async def test_a_deployment_is_asked_for_with_all_that_the_configuration_says(
    vercel: Vercel, server: VercelStandIn
) -> None:
    settings = {**SETTINGS, "teamId": "team_1"}
    request = asked_for(
        "frozen", settings=settings, commit="a" * 40, build_command="make", node_version="22.4.1", framework="next"
    )

    await vercel.start_build(request)

    sent = server.asked("POST", "/v13/deployments")[0]
    assert sent.query == {"teamId": "team_1", "skipAutoDetectionConfirmation": "1"}
    assert sent.json == {
        "name": "shop",
        "project": PROJECT,
        "target": "production",
        "gitSource": {"type": "github", "org": "acme", "repo": "shop", "ref": "frozen", "sha": "a" * 40},
        "projectSettings": {"buildCommand": "make", "nodeVersion": "22.x", "framework": "nextjs"},
        "meta": {"headwayDeploymentId": request.deployment_id, "headwayEnvironment": "production"},
    }


async def test_other_environments_are_previews_unless_the_settings_say_otherwise(
    vercel: Vercel, server: VercelStandIn
) -> None:
    await vercel.start_build(asked_for("frozen", environment="staging"))
    await vercel.start_build(asked_for("frozen", settings={**SETTINGS, "target": "qa"}))

    assert [sent.json.get("target") for sent in server.asked("POST", "/v13/deployments")] == [None, "qa"]


async def test_variables_are_set_by_themselves_and_secrets_as_such(vercel: Vercel, server: VercelStandIn) -> None:
    request = asked_for(
        "feature",
        environment="staging",
        environment_variables={"COLOUR": "blue", "DATABASE": "shown"},
        secrets={"DATABASE": "a-secret-password", "VERCEL_TOKEN": TOKEN},
    )

    await vercel.start_build(request)

    where = {"target": ["preview"], "gitBranch": "feature"}
    assert server.variables == [
        {"key": "COLOUR", "value": "blue", "type": "encrypted", **where},
        {"key": "DATABASE", "value": "a-secret-password", "type": "sensitive", **where},
    ]
    assert b"a-secret-password" not in server.asked("POST", "/v13/deployments")[0].body


async def test_refused_variables_are_named_and_their_values_are_not(vercel: Vercel, server: VercelStandIn) -> None:
    server.refused_variables = [
        {
            "error": {
                "code": "ENV_CONFLICT",
                "message": "my-password is there",
                "envVarKey": "DB",
                "value": "my-password",
            }
        }
    ]

    with pytest.raises(DeploymentError) as refused:
        await vercel.start_build(asked_for("well", secrets={"DB": "my-password"}))

    assert "DB (ENV_CONFLICT)" in refused.value.message
    assert "my-password" not in str(refused.value)
    assert server.made == {}


async def test_a_token_of_the_project_wins_and_a_wrong_one_is_said_plainly(
    vercel: Vercel, server: VercelStandIn
) -> None:
    with pytest.raises(DeploymentError) as refused:
        await vercel.start_build(asked_for("well", secrets={"VERCEL_TOKEN": "another-token"}))

    assert refused.value.code == ErrorCode.INSUFFICIENT_PERMISSIONS
    assert "another-token" not in str(refused.value)

    nobody = Vercel(None, server.url, Options(allow_private_addresses=True))
    with pytest.raises(DeploymentError, match="VERCEL_TOKEN"):
        await nobody.start_build(asked_for("well"))
    await nobody.close()


@pytest.mark.parametrize(
    ("settings", "pointer"),
    [
        ({}, "/providerSettings/gitSource"),
        ({**SETTINGS, "project": "x"}, "/providerSettings/project"),
        ({**SETTINGS, "projectName": "both"}, "/providerSettings"),
        ({"gitSource": SETTINGS["gitSource"]}, "/providerSettings"),
        ({**SETTINGS, "projectId": "../x"}, "/providerSettings/projectId"),
        ({**SETTINGS, "gitSource": {"type": "github", "org": "acme"}}, "/providerSettings/gitSource"),
        ({**SETTINGS, "gitSource": {"type": "gitlab", "repoId": 7}}, "/providerSettings/gitSource"),
        ({**SETTINGS, "gitSource": {"type": "svn"}}, "/providerSettings/gitSource/type"),
        ({**SETTINGS, "gitSource": {"type": "github", "repoId": 7, "x": 1}}, "/providerSettings/gitSource/x"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(settings: dict[str, Any], pointer: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        Vercel().check_settings(settings, None)

    assert refused.value.code == ErrorCode.INVALID_REQUEST
    assert pointer in [field for field, _ in refused.value.fields]


@pytest.mark.parametrize(
    "source",
    [
        {"type": "github", "repoId": 7},
        {"type": "github-limited", "org": "a", "repo": "b"},
        {"type": "gitlab", "projectId": "7"},
        {"type": "bitbucket", "owner": "a", "slug": "b"},
        {"type": "bitbucket", "repoUuid": "{1}", "workspaceUuid": "{2}"},
    ],
)
async def test_every_form_of_a_repository_is_one_that_vercel_describes(
    vercel: Vercel, server: VercelStandIn, source: dict[str, Any]
) -> None:
    await vercel.start_build(asked_for("frozen", settings={"projectName": "shop", "gitSource": source}))

    assert server.asked("POST", "/v13/deployments")[0].json["gitSource"] == {**source, "ref": "frozen"}


@pytest.mark.parametrize(
    "more",
    [
        {"skip_deploy": True},
        {"node_version": "12"},
        {"build_command": "x" * 300},
        {"settings": {**SETTINGS, "target": "qa"}, "environment_variables": {"A": "b"}},
    ],
)
async def test_what_vercel_cannot_do_is_refused_before_anything_is_asked(
    vercel: Vercel, server: VercelStandIn, more: dict[str, Any]
) -> None:
    with pytest.raises(DeploymentError) as refused:
        await vercel.start_build(asked_for("well", **more))

    assert refused.value.code == ErrorCode.INVALID_REQUEST
    assert server.requests == []


# One intent, one build


@pytest.mark.parametrize("list_lags", [0, 1, 2])
@pytest.mark.parametrize("kind", ["lost", "status", "reset"])
async def test_however_often_an_answer_is_lost_there_is_one_deployment(
    vercel: Vercel, server: VercelStandIn, kind: str, list_lags: int
) -> None:
    server.list_lags = list_lags
    server.fault(kind, "POST", "/v13/deployments", times=3)
    request = asked_for("frozen")

    build = await in_the_end(lambda: vercel.start_build(request))

    assert server.creates[request.deployment_id] == 1
    assert list(server.made) == [build.build_id]


class NotAtFirst(Fault):
    """Lets one call through before it happens."""

    seen = False

    def fits(self, method: str, path: str) -> bool:
        first = super().fits(method, path) and not self.seen
        self.seen = self.seen or first
        return super().fits(method, path) and not first


async def test_an_unknown_outcome_is_looked_up_at_once_and_waited_for(vercel: Vercel, server: VercelStandIn) -> None:
    server.fault("lost", "POST", "/v13/deployments")
    assert (await vercel.start_build(asked_for("frozen"))).build_id in server.made

    server.list_lags = 5
    server.fault("lost", "POST", "/v13/deployments")
    with pytest.raises(DeploymentError) as unknown:
        await vercel.start_build(asked_for("frozen"))

    assert unknown.value.retryable
    assert (unknown.value.retry_after_seconds or 0) >= 10

    server.fault("lost", "POST", "/v13/deployments")
    lists = len(server.asked("GET", "/v7/"))
    server.faults += [NotAtFirst("status", "GET", "/v7/", times=1)]
    with pytest.raises(DeploymentError) as unknown:
        await vercel.start_build(asked_for("frozen"))
    assert len(server.asked("GET", "/v7/")) == lists + 2
    assert (unknown.value.retry_after_seconds or 0) >= 10, "also when the look-up fails"


async def test_a_deployment_of_somebody_else_is_not_taken_for_ours(vercel: Vercel, server: VercelStandIn) -> None:
    first = await vercel.start_build(asked_for("frozen"))
    second = await vercel.start_build(asked_for("frozen"))

    assert first.build_id != second.build_id
    assert [sent.query.get("forceNew") for sent in server.asked("POST", "/v13/deployments")] == [None, None, "1"]


async def test_a_deployment_is_found_on_any_page(vercel: Vercel, server: VercelStandIn) -> None:
    server.page_size = 2
    request = asked_for("frozen")
    build = await vercel.start_build(request)
    for number in range(5):
        made = Made(f"dpl_other{number}", server.made[build.build_id].body | {"meta": {}}, "frozen")
        made.created += 10 + number
        server.made[made.id] = made

    assert await vercel.start_build(request) == build


async def test_an_answer_without_our_id_ends_the_deployment_and_makes_no_more(
    vercel: Vercel, server: VercelStandIn
) -> None:
    server.fault("twisted", "POST", "/v13/deployments", times=2, twist=lambda body: {**body, "meta": {}})

    with pytest.raises(DeploymentError) as failed:
        await vercel.start_build(asked_for("frozen"))

    assert not failed.value.retryable


# Following


async def test_the_stand_ins_log_is_as_vercel_describes_it(vercel: Vercel, server: VercelStandIn) -> None:
    request = asked_for("failing")
    build = await vercel.start_build(request)
    await told(vercel, request, build)
    records = server.made[build.build_id].records

    wrong = [server.judge.of_record("GET", "/v3/deployments/{idOrUrl}/events", record) for record in records[::50]]

    assert wrong == [[]] * len(wrong)
    assert server.judge.of_record("GET", "/v3/deployments/{idOrUrl}/events", {"type": "stdout"})


async def test_every_line_is_told_once_in_order_though_the_stream_breaks(vercel: Vercel, server: VercelStandIn) -> None:
    server.streams_end_after = 400
    request = asked_for("well")

    news = await told(vercel, request, await vercel.start_build(request))

    assert messages(news) == [f"line {number}" for number in range(LINES)]
    assert len(server.asked("GET", "/events$")) > 1


async def test_a_log_as_one_array_is_read_too(vercel: Vercel, server: VercelStandIn) -> None:
    server.as_array = True
    server.streams_end_after = 1
    request = asked_for("failing")

    news = await told(vercel, request, await vercel.start_build(request))

    assert len(messages(news)) == LINES + 1
    assert news[-1].failure
    assert news[-1].failure.log_excerpt[-1] == "the page has no title"
    assert news[-1].failure.phase == "build"
    assert "https://vercel.com/team/shop/" in (news[-1].failure.hint or "")


async def test_levels_steps_and_the_commit_are_taken_over(vercel: Vercel, server: VercelStandIn) -> None:
    request = asked_for("failing")

    news = await told(vercel, request, await vercel.start_build(request))

    last = [line for part in news for line in part.lines][-1]
    assert (last.level, last.step, last.source) == (LogLevel.ERROR, "build", "build")
    assert news[-1].repository is not None
    assert (news[-1].repository.commit, news[-1].repository.message) == ("c0ffee" + "0" * 34, "Sell")


async def test_what_cannot_be_read_of_the_log_is_said_in_it(vercel: Vercel, server: VercelStandIn) -> None:
    request, build, made = await frozen(vercel, server)
    made.write("first")
    made.records += [{"created": "yesterday", "text": ["?"]}, {"type": 7}, {"created": 1e300, "text": "far away"}]
    made.write("last\ud800")
    made.becomes("READY", aliasAssigned=True)

    news = await told(vercel, request, build)

    assert messages(news)[0] == "first"
    assert messages(news)[-1].endswith("records of vercel's log could not be read")
    assert news[-1].stage == "built"


async def test_a_log_that_cannot_be_had_does_not_fail_the_build(vercel: Vercel, server: VercelStandIn) -> None:
    server.fault("status", "GET", "/events$", times=1000, status=500)
    request = asked_for("well")

    news = await told(vercel, request, await vercel.start_build(request))

    assert news[-1].stage == "built"
    assert "could not be read" in messages(news)[-1]


@pytest.mark.parametrize(
    ("state", "waiting"),
    [
        ({"readyState": "QUEUED"}, "queued"),
        ({"readyState": "QUEUED", "isInConcurrentBuildsQueue": True}, "concurrent builds"),
        ({"readyState": "QUEUED", "isInSystemBuildsQueue": True}, "want of builders"),
        ({"readyState": "INITIALIZING", "manualProvisioning": {"state": "PENDING"}}, "by hand"),
        ({"readyState": "BLOCKED", "seatBlock": {"blockCode": "COMMIT_AUTHOR_REQUIRED"}}, "COMMIT_AUTHOR_REQUIRED"),
        ({"readyState": "READY", "readySubstate": "ROLLING", "aliasAssigned": True}, "rolling release"),
        ({"readyState": "READY", "checksState": "running"}, "checks"),
        ({"readyState": "READY"}, "assigns the domains"),
    ],
)
async def test_what_it_waits_for_is_said_plainly(
    vercel: Vercel, server: VercelStandIn, state: dict[str, Any], waiting: str
) -> None:
    request, build, made = await frozen(vercel, server)
    made.state |= state

    news = await seen(vercel, request, build, until=lambda news: waiting in (news.waiting or ""))

    assert news.stage in {"initializing", "building"}
    assert (news.step or "").startswith(state["readyState"])


@pytest.mark.parametrize("word", ["TELEPORTING", "", "ready", "QUEUED_AGAIN"])
async def test_an_unknown_word_is_not_final_and_is_passed_on(vercel: Vercel, server: VercelStandIn, word: str) -> None:
    request, build, _ = await frozen(vercel, server)
    server.fault("twisted", "GET", "/v13/", times=1000, twist=lambda body: {**body, "readyState": word, "status": word})

    news = await seen(vercel, request, build, until=lambda news: repr(word) in (news.waiting or ""))

    assert news.step == word
    assert news.stage == "initializing"


@pytest.mark.parametrize(
    ("state", "end", "said"),
    [
        ({"readyState": "CANCELED"}, ("canceled", ErrorCode.CANCELED), "canceled"),
        ({"readyState": "ERROR", "errorCode": "X", "errorMessage": "why"}, ("failed", ErrorCode.BUILD_FAILED), "X why"),
        ({"readyState": "ERROR"}, ("failed", ErrorCode.BUILD_FAILED), "without saying why"),
        (
            {"readyState": "READY", "aliasError": {"code": "cert_missing", "message": "no cert"}},
            ("failed", ErrorCode.DEPLOY_FAILED),
            "cert_missing no cert",
        ),
        ({"readyState": "READY", "checksConclusion": "failed"}, ("failed", ErrorCode.DEPLOY_FAILED), "check"),
        (
            {"readyState": "READY", "checks": {"deployment-alias": {"state": "failed", "startedAt": 1}}},
            ("failed", ErrorCode.DEPLOY_FAILED),
            "check",
        ),
    ],
)
async def test_each_end_is_told_with_its_reason(
    vercel: Vercel, server: VercelStandIn, state: dict[str, Any], end: tuple[str, ErrorCode], said: str
) -> None:
    request, build, made = await frozen(vercel, server)
    made.state |= state

    last = (await told(vercel, request, build))[-1]

    assert last.failure is not None
    assert (last.stage, last.failure.code) == end
    assert said in last.failure.message


async def test_an_outage_is_waited_for_and_said(server: VercelStandIn) -> None:
    vercel = Vercel(TOKEN, server.url, Options(allow_private_addresses=True), pace=Pace(look=0.5))
    request, build, made = await frozen(vercel, server)
    outage = server.fault("status", "GET", "/v13/", times=1000, status=502)

    news = await seen(vercel, request, build, until=lambda news: "502" in (news.waiting or ""))
    assert news.stage == "initializing"

    outage.times = 0
    made.becomes("READY", aliasAssigned=True)
    assert (await told(vercel, request, build))[-1].stage == "built"
    await vercel.close()


async def test_an_outage_after_the_end_of_a_build_takes_nothing_from_its_log(
    vercel: Vercel, server: VercelStandIn
) -> None:
    request, build, made = await frozen(vercel, server)
    made.write("all is well")
    made.becomes("READY", aliasAssigned=True)
    reads = server.fault(
        "status", "GET", "/v13/", times=4, status=503, when=lambda: len(server.asked("GET", "/v13/")) > 1
    )
    server.fault("status", "GET", "/events$", times=1000, status=503, when=lambda: reads.happened < 4)

    news = await told(vercel, request, build)

    assert messages(news) == ["all is well"]
    assert news[-1].stage == "built"


async def test_faults_of_every_kind_delay_a_deployment_and_change_nothing(
    vercel: Vercel, server: VercelStandIn
) -> None:
    for method, path in (("GET", "/v13/"), ("GET", "/events$"), ("GET", "/v7/"), ("POST", "/v13/deployments")):
        server.fault("status", method, path, status=500)
        server.fault("reset", method, path)
        server.fault("lost", method, path)
    server.streams_end_after = 700
    request = asked_for("well")

    news = await told(vercel, request, await in_the_end(lambda: vercel.start_build(request)))

    assert messages(news) == [f"line {number}" for number in range(LINES)]
    assert news[-1].stage == "built"
    assert server.creates == {request.deployment_id: 1}


async def test_following_ends_when_the_credential_is_taken_away(vercel: Vercel, server: VercelStandIn) -> None:
    request, build, _ = await frozen(vercel, server)
    server.fault("status", "GET", "/v13/", times=1000, status=403, body=b"{}")

    with pytest.raises(DeploymentError) as failed:
        await told(vercel, request, build)

    assert failed.value.code == ErrorCode.INSUFFICIENT_PERMISSIONS


# Hostile answers


@pytest.mark.parametrize(
    "twist",
    [
        lambda _: [],
        lambda _: None,
        lambda body: {**body, "id": None},
        lambda body: {**body, "meta": "x"},
        lambda body: {**body, "alias": {"a": 1}},
        lambda body: {key: value for key, value in body.items() if key != "id"},
    ],
)
async def test_an_answer_that_does_not_fit_is_a_plain_error(vercel: Vercel, server: VercelStandIn, twist: Any) -> None:
    request, build, made = await frozen(vercel, server)
    made.becomes("READY", aliasAssigned=True)
    server.fault("twisted", "GET", "/v13/", twist=twist)

    with pytest.raises(DeploymentError) as failed:
        await vercel.publish_build(request, build)

    assert failed.value.code == ErrorCode.PROVIDER_ERROR
    assert "asked to read the deployment" in failed.value.message


async def test_a_huge_answer_is_a_plain_error(vercel: Vercel, server: VercelStandIn) -> None:
    request, build, _ = await frozen(vercel, server)
    server.fault("huge", "GET", "/v13/")

    with pytest.raises(DeploymentError, match="more than 10485760 bytes"):
        await vercel.publish_build(request, build)


async def test_links_that_are_none_are_left_out(vercel: Vercel, server: VercelStandIn) -> None:
    request, build, made = await frozen(vercel, server)
    made.becomes("ERROR")
    bad = {"url": "javascript:alert(1)", "inspectorUrl": "javascript:alert(1)", "alias": ["a b", 'x"><script>', "u@h"]}
    server.fault("twisted", "GET", "/v13/", times=1000, twist=lambda body: {**body, **bad})

    publication = await vercel.publish_build(request, build)
    last = (await told(vercel, request, build))[-1]

    assert "javascript" not in json.dumps(publication.model_dump(mode="json"))
    assert publication.preview_urls == []
    assert last.failure
    assert last.failure.hint is None


# Making live


async def test_a_production_deployment_that_vercel_published_has_its_own_domain_first(vercel: Vercel) -> None:
    request = asked_for("well")
    build = await vercel.start_build(request)
    await told(vercel, request, build)

    publication = await vercel.publish_build(request, build)

    assert publication.deployment_url == "https://shop.example.org"
    assert f"https://shop-{build.build_id.removeprefix('dpl_')}.vercel.app" in publication.preview_urls


async def test_a_staged_deployment_is_promoted_once_however_often_that_is_asked(
    vercel: Vercel, server: VercelStandIn
) -> None:
    server.assigns_domains = False
    request = asked_for("well")
    build = await vercel.start_build(request)
    assert (await told(vercel, request, build))[-1].stage == "built"
    assert server.live is None
    server.fault("lost", "POST", "/promote/")
    server.fault("lost", "POST", "/promote/")

    publications = await asyncio.gather(*(in_the_end(lambda: vercel.publish_build(request, build)) for _ in range(3)))

    assert server.live == build.build_id
    assert server.creates[f"promote {build.build_id}"] == 1
    assert {publication.deployment_url for publication in publications} == {"https://shop.example.org"}


async def test_an_earlier_deployment_is_live_again_without_a_build_and_the_next_one_after_it(
    vercel: Vercel, server: VercelStandIn
) -> None:
    first, second, third = asked_for("well"), asked_for("well"), asked_for("well")
    builds = []
    for request in (first, second):
        builds.append(await vercel.start_build(request))
        await told(vercel, request, builds[-1])

    with pytest.raises(Overtaken):
        await vercel.repoint(overtaken(asked_for("well")), builds[0])
    assert server.live == builds[1].build_id
    await vercel.repoint(asked_for("well"), builds[0])
    await vercel.repoint(asked_for("well"), builds[0])

    assert server.live == builds[0].build_id
    assert server.creates[f"rollback {builds[0].build_id}"] == 1
    assert len(server.made) == 2

    build = await vercel.start_build(third)
    await told(vercel, third, build)
    with pytest.raises(Overtaken):
        await vercel.publish_build(overtaken(third), build)
    assert server.live == builds[0].build_id, "after a rollback vercel leaves new deployments staged"
    await vercel.publish_build(third, build)
    assert server.live == build.build_id


async def test_domains_that_do_not_move_are_said(vercel: Vercel, server: VercelStandIn) -> None:
    server.assigns_domains = False
    request = asked_for("well")
    build = await vercel.start_build(request)
    await told(vercel, request, build)
    publishing = asyncio.create_task(vercel.publish_build(request, build))

    async def was_asked() -> bool:
        return server.job is not None

    await eventually(was_asked)
    assert server.job is not None
    server.job = {**server.job, "jobStatus": "failed"}

    with pytest.raises(DeploymentError) as failed:
        await publishing
    assert failed.value.code == ErrorCode.DEPLOY_FAILED


async def test_a_refused_promote_says_why(vercel: Vercel, server: VercelStandIn) -> None:
    server.assigns_domains = False
    request = asked_for("well")
    build = await vercel.start_build(request)
    await told(vercel, request, build)
    body = json.dumps({"error": {"code": "plan", "message": "not on this plan"}}).encode()
    server.fault("status", "POST", "/promote/", status=422, body=body)

    with pytest.raises(DeploymentError, match="not on this plan") as failed:
        await vercel.publish_build(request, build)
    assert failed.value.code == ErrorCode.DEPLOY_FAILED


async def test_a_preview_has_its_own_address_and_moves_no_domain(vercel: Vercel, server: VercelStandIn) -> None:
    request = asked_for("well", environment="staging")
    build = await vercel.start_build(request)
    await told(vercel, request, build)

    publication = await vercel.publish_build(request, build)

    assert publication == publication.model_copy(
        update={"deployment_url": f"https://shop-{build.build_id.removeprefix('dpl_')}.vercel.app"}
    )
    assert (await vercel.repoint(request, build)).deployment_url == publication.deployment_url
    assert server.live is None


# What is left


async def test_a_report_has_the_build_time_the_address_and_the_warnings(vercel: Vercel, server: VercelStandIn) -> None:
    request, build, made = await frozen(vercel, server, framework="astro")
    made.becomes("READY", buildingAt=MORNING, ready=MORNING + 4500, buildSkipped=True)
    made.state["aliasWarning"] = {"code": "slow_dns", "message": "wait for it"}

    report = await vercel.collect_report(request, build)

    assert report.metrics.build_time == 4.5
    assert report.artifact_id == build.build_id
    assert report.artifact_urls == [f"https://shop-{build.build_id.removeprefix('dpl_')}.vercel.app"]
    assert report.framework == "astro"
    assert [warning.message for warning in report.warnings] == [
        "vercel warns about the domains: slow_dns wait for it",
        "vercel skipped the build",
    ]


async def test_a_deployment_that_is_not_found_yet_is_canceled_all_the_same(
    vercel: Vercel, server: VercelStandIn
) -> None:
    request, build, made = await frozen(vercel, server)
    server.fault("status", "GET", "/v13/", times=2, status=404, body=b"{}")

    await vercel.cancel_build(request, build)

    assert made.word == "CANCELED"


async def test_a_cancel_that_vercel_refuses_is_asked_until_it_has_ended(vercel: Vercel, server: VercelStandIn) -> None:
    request, build, made = await frozen(vercel, server)
    server.fault("status", "PATCH", "/cancel$", times=2, status=400, body=b"{}")

    await vercel.cancel_build(request, build)

    assert made.word == "CANCELED"
    assert len(server.asked("PATCH", "/cancel$")) == 3
