"""What the `custom` provider makes of servers that fail, lie, or read differently than the example's."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.errors import DeploymentError, ErrorCode
from domain.log import LogLevel
from providers.base import Build, BuildNews, BuildRequest
from providers.custom.provider import Custom
from providers.http import Options
from tests.providers.conformance import messages, told
from tests.providers.custom_stand_in import TOKEN, CustomStandIn, Made, asked_for, described
from tests.providers.stand_in import in_the_end

BLIND: dict[str, Any] = {"requests": {"find": None}}
"""Nobody can look whether a build is there."""


@pytest.fixture
async def custom() -> AsyncIterator[Custom]:
    custom = Custom(Options(allow_private_addresses=True))
    yield custom
    await custom.close()


@pytest.fixture
async def server() -> AsyncIterator[CustomStandIn]:
    async with CustomStandIn().running() as server:
        yield server


async def frozen(
    custom: Custom, server: CustomStandIn, settings: dict[str, Any] | None = None, **more: Any
) -> tuple[BuildRequest, Build, Made]:
    """A build that stays as the test leaves it."""
    request = asked_for(settings or described(server.url), **more)
    build = await custom.start_build(request)
    return request, build, server.made[build.build_id]


async def seen(custom: Custom, request: BuildRequest, build: Build, *, until: Any) -> BuildNews:
    """The first news that are as `until` wants them."""
    async with asyncio.timeout(30):
        async for news in custom.follow_build(request, build, ""):
            if until(news):
                return news
    raise AssertionError("the news ended before")


# One intent, one build


@pytest.mark.parametrize("list_lags", [0, 1])
@pytest.mark.parametrize("kind", ["lost", "status", "reset"])
async def test_however_often_an_answer_is_lost_there_is_one_build(
    custom: Custom, server: CustomStandIn, kind: str, list_lags: int
) -> None:
    server.list_lags = list_lags
    server.fault(kind, "POST", "/deployments$", times=3)
    request = asked_for(described(server.url))

    build = await in_the_end(lambda: custom.start_build(request))

    assert server.creates == {request.deployment_id: 1}
    assert list(server.made) == [build.build_id]


@pytest.mark.parametrize("kind", ["lost", "status", "huge"])
async def test_without_a_look_up_an_unknown_outcome_ends_the_deployment_and_says_so(
    custom: Custom, server: CustomStandIn, kind: str
) -> None:
    server.fault(kind, "POST", "/deployments$")
    request = asked_for(described(server.url, **BLIND))

    with pytest.raises(DeploymentError, match="it is not known whether a build runs") as unknown:
        await custom.start_build(request)

    assert not unknown.value.retryable
    assert "idempotentCreate" in unknown.value.details["hint"]
    assert len(server.asked("POST", "/deployments$")) == 1


async def test_a_create_that_is_idempotent_is_repeated_under_the_same_key(
    custom: Custom, server: CustomStandIn
) -> None:
    server.knows_keys = True
    server.fault("lost", "POST", "/deployments$", times=3)
    request = asked_for(described(server.url, **BLIND, idempotentCreate=True))

    build = await in_the_end(lambda: custom.start_build(request))

    assert server.creates == {request.deployment_id: 1}
    sent = server.asked("POST", "/deployments$")
    assert {one.headers["idempotency-key"] for one in sent} == {f"headway-{request.deployment_id}"}
    assert len(sent) > 1
    assert build.build_id in server.made


async def test_what_was_refused_before_it_was_made_is_tried_again_without_a_look_up(
    custom: Custom, server: CustomStandIn
) -> None:
    server.fault("status", "POST", "/deployments$", status=429)
    request = asked_for(described(server.url, **BLIND))

    with pytest.raises(DeploymentError) as limited:
        await custom.start_build(request)

    assert limited.value.code == ErrorCode.RATE_LIMITED


async def test_a_build_of_somebody_else_is_not_taken_for_ours(custom: Custom, server: CustomStandIn) -> None:
    _, _, others = await frozen(custom, server)
    listed = {"deployments": [{"id": others.id, "key": others.body["key"], "status": "succeeded"}]}
    server.fault("twisted", "GET", "/deployments$", twist=lambda _: listed)

    _, build, _ = await frozen(custom, server)

    assert build.build_id != others.id


async def test_a_build_whose_start_was_cut_off_is_found_and_nothing_is_made(
    custom: Custom, server: CustomStandIn
) -> None:
    request, build, _ = await frozen(custom, server)
    blind = request.model_copy(update={"provider_settings": described(server.url, **BLIND)})

    assert await custom.find_build(request) == build
    assert await custom.find_build(asked_for(described(server.url))) is None
    assert await custom.find_build(blind) is None, "that cannot be said"
    assert len(server.made) == 1


async def test_a_build_may_have_our_id_there(custom: Custom, server: CustomStandIn) -> None:
    settings = described(server.url, requests={"create": {"answer": {"id": None}}, "find": None})
    request = asked_for(settings)

    assert (await custom.start_build(request)).build_id == request.deployment_id


# What is sent


async def test_the_body_is_filled_with_values_and_nothing_in_them_is_read_again(
    custom: Custom, server: CustomStandIn
) -> None:
    body = {
        "build": "{configuration.buildCommand}",
        "note": "for {environment}: {variables.COLOUR}{variables.NONE} {{as it is}}",
        "secrets": "{secrets}",
    }
    request = asked_for(
        described(server.url, requests={"create": {"body": body}}),
        ref="feature/{deploymentId}",
        secrets={"DEPLOY_TOKEN": TOKEN, "CUSTOM_WEBHOOK_SECRET": "whsec_x", "DB": 'a"secret'},
        environment_variables={"COLOUR": '{secrets.DB}", "x": "', "{cursor}": "{buildId}"},
        build_command="make {ref}",
    )

    await custom.start_build(request)

    assert server.asked("POST", "/deployments$")[0].json == {
        "key": request.deployment_id,
        "project": "shop",
        "environment": "production",
        "ref": "feature/{deploymentId}",
        "variables": {"COLOUR": '{secrets.DB}", "x": "', "{cursor}": "{buildId}"},
        "build": "make {ref}",
        "note": 'for production: {secrets.DB}", "x": " {as it is}',
        "secrets": {"DB": 'a"secret'},
    }


async def test_a_commit_is_sent_where_it_is_known(custom: Custom, server: CustomStandIn) -> None:
    await frozen(custom, server, commit="a" * 40)

    assert server.asked("POST", "/deployments$")[0].json["commit"] == "a" * 40


async def test_an_id_with_slashes_stays_one_part_of_the_address(custom: Custom, server: CustomStandIn) -> None:
    request, build, _ = await frozen(custom, server)
    strange = build.model_copy(update={"build_id": "../x/y?z=1#{buildId}"})

    with pytest.raises(DeploymentError):
        await custom.collect_report(request, strange)
    await custom.collect_report(request, strange.model_copy(update={"build_id": "a?z=1#{buildId}"}))

    assert [sent.path for sent in server.asked("GET", "/deployments/")] == ["/deployments/a%3Fz=1%23{buildId}"]


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"type": "bearer"}, "authorization", f"Bearer {TOKEN}"),
        ({"type": "header", "header": "X-Api-Key"}, "x-api-key", TOKEN),
        ({"type": "header", "header": "Authorization", "prefix": "Token "}, "authorization", f"Token {TOKEN}"),
        (
            {"type": "basic", "user": "ada"},
            "authorization",
            "Basic " + base64.b64encode(f"ada:{TOKEN}".encode()).decode(),
        ),
    ],
)
async def test_the_secret_is_sent_as_the_description_says_and_is_in_no_message(
    custom: Custom, server: CustomStandIn, auth: dict[str, Any], header: str, value: str
) -> None:
    said = json.dumps({"error": {"message": f"wrong: {value} and {value.removeprefix('Basic ')} and {TOKEN}"}})
    server.fault("status", "GET", "/deployments$", status=403, body=said.encode())
    settings = described(server.url, auth=None) | {"auth": {"secret": "DEPLOY_TOKEN", **auth}}

    with pytest.raises(DeploymentError) as refused:
        await custom.start_build(asked_for(settings))

    assert server.requests[0].headers[header] == value
    assert refused.value.code == ErrorCode.INSUFFICIENT_PERMISSIONS
    assert "wrong: " in refused.value.message
    assert TOKEN not in refused.value.message
    assert value.removeprefix("Basic ") not in refused.value.message


async def test_a_secret_that_is_not_there_is_named(custom: Custom, server: CustomStandIn) -> None:
    with pytest.raises(DeploymentError, match="no secret DEPLOY_TOKEN") as refused:
        await custom.start_build(asked_for(described(server.url), secrets={}))

    assert refused.value.code == ErrorCode.INSUFFICIENT_PERMISSIONS
    assert server.requests == []


async def test_addresses_within_are_refused_where_they_are_not_allowed(server: CustomStandIn) -> None:
    custom = Custom()

    with pytest.raises(DeploymentError, match="not a public address"):
        await custom.start_build(asked_for(described(server.url)))

    await custom.close()
    assert server.requests == []


@pytest.mark.parametrize(
    "more",
    [
        {"ref": "--upload-pack=x"},
        {"settings": {"requests": {"find": None, "publish": None, "repoint": None}}, "skip_deploy": True},
        {"settings": {"requests": {"find": None, "create": {"headers": {"X-Ref": "{sourceRef}"}}}}, "ref": "gr\u00fcn"},
        {"settings": {"requests": {"find": None, "create": {"url": "/deployments/{commitSha}"}}}},
    ],
)
async def test_what_cannot_be_asked_is_refused_before_anything_is_asked(
    custom: Custom, server: CustomStandIn, more: dict[str, Any]
) -> None:
    settings = described(server.url, **{"requests": {"find": None}, **more.pop("settings", {})})

    with pytest.raises(DeploymentError) as refused:
        await custom.start_build(asked_for(settings, **more))

    assert not refused.value.retryable
    assert server.requests == []


# Following


LINES = [f"line {number}" for number in range(1000)]
READ_AS: dict[str, dict[str, Any]] = {
    "page": {},
    "page by the last id": {"logs": {"next": None, "line": {"id": "/n", "timestamp": None}}},
    "status": {
        "logs": {"kind": "status", "lines": "/log", "next": None, "line": {"message": "", "timestamp": None}},
        "requests": {"logs": None},
    },
    "text by offset": {
        "logs": {"kind": "text", "lines": None, "next": None, "line": None},
        "requests": {"logs": {"url": "/deployments/{buildId}/text", "query": {"after": None, "offset": "{offset}"}}},
    },
    "text by range": {
        "logs": {"kind": "text", "lines": None, "next": None, "line": None},
        "requests": {
            "logs": {
                "url": "/deployments/{buildId}/text",
                "query": None,
                "headers": {"Range": "bytes={offset}-"},
            }
        },
    },
}


@pytest.mark.parametrize("kind", READ_AS)
async def test_every_line_is_told_once_however_the_log_is_read_and_from_any_cursor(
    custom: Custom, server: CustomStandIn, kind: str
) -> None:
    request, build, made = await frozen(custom, server, described(server.url, **READ_AS[kind]))
    made.status = "building"
    made.lines += LINES[:7]
    following = asyncio.create_task(told(custom, request, build))
    await seen(custom, request, build, until=lambda news: len(news.lines) == 7)
    made.lines += LINES[7:]
    made.status = "succeeded"
    news = await following

    assert messages(news) == LINES
    assert news[-1].stage == "built"
    for part in news[:: max(1, len(news) // 4)]:
        before = LINES.index(part.lines[-1].message) + 1 if part.lines else None
        if before is not None:
            assert messages(await told(custom, request, build, part.cursor)) == LINES[before:]


async def test_a_text_is_told_by_whole_lines_and_its_end_at_last(custom: Custom, server: CustomStandIn) -> None:
    server.ranges = False
    request, build, made = await frozen(custom, server, described(server.url, **READ_AS["text by range"]))
    made.status, made.lines, made.partial = "building", ["gr\u00fcn\r", ""], "half a"
    following = asyncio.create_task(told(custom, request, build))
    await seen(custom, request, build, until=lambda news: len(news.lines) == 2)
    made.partial = "half a line"
    made.status = "failed"

    assert messages(await following) == ["gr\u00fcn", "", "half a line"]


async def test_a_log_that_keeps_its_newest_lines_only_is_told_on_by_ids(custom: Custom, server: CustomStandIn) -> None:
    settings = described(
        server.url,
        logs={"kind": "status", "lines": "/log", "next": None, "line": {"message": "", "id": "", "timestamp": None}},
        requests={"logs": None},
    )
    request, build, made = await frozen(custom, server, settings)
    made.status, made.lines = "building", LINES[:10]
    lines: list[str] = []
    async for news in custom.follow_build(request, build, ""):
        lines += messages([news])
        if len(lines) == 10:
            made.lines = LINES[5:15]
            made.status = "succeeded"

    assert lines == LINES[:15]


async def test_the_log_of_a_build_that_has_ended_is_waited_for_through_an_outage(
    custom: Custom, server: CustomStandIn
) -> None:
    request, build, made = await frozen(custom, server)
    made.status, made.lines = "succeeded", LINES[:5]
    server.fault("status", "GET", "/log$", times=1000)
    outage = server.fault("status", "GET", "/b1$", times=0)
    news: list[BuildNews] = []
    async for one in custom.follow_build(request, build, ""):
        news.append(one)
        outage.times = 1000
        if sum("500" in (each.waiting or "") for each in news) == 4:
            server.faults.clear()

    assert messages(news) == LINES[:5]
    assert news[-1].stage == "built"


async def test_levels_steps_and_moments_of_lines_are_taken_over(custom: Custom, server: CustomStandIn) -> None:
    line = {"level": "/level", "step": "/phase", "id": "/n"}
    request, build, made = await frozen(custom, server, described(server.url, logs={"line": line}))
    made.status = "succeeded"
    entries = [
        {"n": 1, "text": "a", "level": "WARNING", "phase": "fetch", "at": "2026-01-02T03:04:05+01:00"},
        {"n": 2, "text": "b", "level": "loud", "at": 1_700_000_000_000},
        {"n": 3, "text": "c", "level": 7, "at": "yesterday"},
        {"n": 4, "at": "2026-01-02T03:04:05Z"},
        "e",
        {"n": 6, "text": "f" * 200_000, "at": 1e300},
    ]
    server.fault("twisted", "GET", "/log$", times=100, twist=lambda _: {"lines": entries, "next": 6})

    lines = [line for news in await told(custom, request, build) for line in news.lines]

    assert [line.message[:5] for line in lines[:-1]] == ["a", "b", "c", "fffff"]
    assert "could not be read" in lines[-1].message
    assert [line.level for line in lines[:2]] == [LogLevel.WARN, None]
    assert (lines[0].step, lines[0].timestamp.isoformat()) == ("fetch", "2026-01-02T02:04:05+00:00")
    assert lines[1].timestamp.year == 2023
    assert len(lines[3].message) < 200_000


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 500}, {"kind": "twisted", "twist": lambda _: []}])
async def test_a_log_that_cannot_be_had_does_not_fail_the_build(
    custom: Custom, server: CustomStandIn, fault: dict[str, Any]
) -> None:
    request, build, made = await frozen(custom, server)
    made.status = "succeeded"
    server.fault(fault.pop("kind"), "GET", "/log$", times=1000, **fault)

    news = await told(custom, request, build)

    assert news[-1].stage == "built"
    assert "the rest of the log could not be read" in messages(news)[-1]
    last_cursor = [part.cursor for part in news if part.lines][-1]
    assert messages(await told(custom, request, build, last_cursor)) == []


@pytest.mark.parametrize("word", ["teleporting", "Succeeded", " failed", True, 7])
async def test_an_unknown_word_is_not_final_and_is_shown(custom: Custom, server: CustomStandIn, word: Any) -> None:
    request, build, _ = await frozen(custom, server)
    server.fault("twisted", "GET", "/deployments/", times=1000, twist=lambda body: {**body, "status": word})

    shown = str(word).strip() if isinstance(word, str) else json.dumps(word)
    news = await seen(custom, request, build, until=lambda news: repr(shown) in (news.waiting or ""))

    assert news.stage == "initializing"


async def test_words_may_be_numbers_and_truth_values(custom: Custom, server: CustomStandIn) -> None:
    words = {"true": "built", "7": "failed", "canceled": "canceled"}
    request, build, _ = await frozen(custom, server, described(server.url, words=None) | {"words": words})
    for word, stage in ((True, "built"), (7, "failed")):
        fault = server.fault(
            "twisted", "GET", "/b1$", times=1000, twist=lambda body, word=word: {**body, "status": word}
        )
        assert (await told(custom, request, build))[-1].stage == stage
        fault.times = 0


@pytest.mark.parametrize(
    ("said", "end", "message"),
    [
        (("failed", "no disk\nleft"), ("failed", ErrorCode.BUILD_FAILED), "no disk left"),
        (
            ("failed", f"{TOKEN} is no token" + "!" * 10**6),
            ("failed", ErrorCode.BUILD_FAILED),
            "*** is no token" + "!" * 285,
        ),
        (("failed", {"a": 1}), ("failed", ErrorCode.BUILD_FAILED), "it failed there, and no reason was said"),
        (("canceled", None), ("canceled", ErrorCode.CANCELED), "it was canceled there"),
        (("slow", None), ("timeout", ErrorCode.TIMEOUT), "it took longer than is allowed there"),
    ],
)
async def test_each_end_is_told_with_its_reason(
    custom: Custom, server: CustomStandIn, said: tuple[str, Any], end: tuple[str, ErrorCode], message: str
) -> None:
    status, reason = said
    request, build, made = await frozen(custom, server, described(server.url, words={"slow": "timeout"}))
    made.lines = ["before", "the last line"]
    made.status = status
    server.fault("twisted", "GET", "/b1$", times=1000, twist=lambda body: {**body, "reason": reason})

    last = (await told(custom, request, build))[-1]

    assert last.failure is not None
    assert (last.stage, last.failure.code) == end
    assert last.failure.message == message
    assert last.failure.log_excerpt == (["before", "the last line"] if status == "failed" else [])


async def test_what_is_built_is_done_once_it_is_live_where_the_provider_publishes(
    custom: Custom, server: CustomStandIn
) -> None:
    settings = described(server.url, requests={"publish": None})
    request, build, made = await frozen(custom, server, settings)
    made.status = "succeeded"

    news = await seen(custom, request, build, until=lambda news: "not published it yet" in (news.waiting or ""))
    assert news.stage == "building"

    made.more["live"] = True
    assert (await told(custom, request, build))[-1].stage == "built"


async def test_an_outage_is_waited_for_and_said(custom: Custom, server: CustomStandIn) -> None:
    request, build, made = await frozen(custom, server)
    outage = server.fault("status", "GET", "/deployments/", times=1000, status=502)

    news = await seen(custom, request, build, until=lambda news: "502" in (news.waiting or ""))
    assert news.stage == "initializing"

    outage.times = 0
    made.status = "succeeded"
    assert (await told(custom, request, build))[-1].stage == "built"


async def test_faults_of_every_kind_delay_a_deployment_and_change_nothing(
    custom: Custom, server: CustomStandIn
) -> None:
    for path in ("/deployments$", "/b1$", "/log$"):
        server.fault("status", "GET", path, status=500)
        server.fault("lost", "GET", path)
        server.fault("twisted", "GET", path, twist=lambda _: None)
        server.fault("slow", "GET", path, seconds=1.2)
    for kind in ("status", "lost"):
        server.fault(kind, "POST", "/deployments$")
    request = asked_for(described(server.url, timeoutSeconds=1))
    build = await in_the_end(lambda: custom.start_build(request))
    server.made[build.build_id].lines += LINES
    server.made[build.build_id].status = "succeeded"

    news = await told(custom, request, build)

    assert messages(news) == LINES
    assert news[-1].stage == "built"
    assert server.creates == {request.deployment_id: 1}


# Hostile answers


@pytest.mark.parametrize(
    "twist",
    [
        lambda _: [],
        lambda _: None,
        lambda _: "x",
        lambda body: {**body, "status": None},
        lambda body: {**body, "status": ["succeeded"]},
        lambda body: {**body, "status": {}},
        lambda body: {**body, "status": 1.5},
        lambda body: {name: value for name, value in body.items() if name != "status"},
    ],
)
async def test_an_answer_without_a_status_is_a_plain_error(custom: Custom, server: CustomStandIn, twist: Any) -> None:
    request, build, _ = await frozen(custom, server)
    server.fault("twisted", "GET", "/b1$", twist=twist)

    with pytest.raises(DeploymentError, match="asked to tell how the build stands, answered 200") as failed:
        await custom.collect_report(request, build)

    assert failed.value.code == ErrorCode.PROVIDER_ERROR


async def test_a_number_that_is_too_long_to_be_written_down_is_a_plain_error(
    custom: Custom, server: CustomStandIn
) -> None:
    request, build, _ = await frozen(custom, server)
    server.fault("status", "GET", "/b1$", status=200, body=b'{"status": %s}' % (b"9" * 5000))

    with pytest.raises(DeploymentError, match="asked to tell how the build stands, answered 200"):
        await custom.collect_report(request, build)


@pytest.mark.parametrize("identity", [None, "", True, 1.5, ["b1"], "x" * 300, "a\nb", 10**30])
async def test_an_answer_without_an_id_is_looked_up_and_makes_no_second_build(
    custom: Custom, server: CustomStandIn, identity: Any
) -> None:
    server.fault("twisted", "POST", "/deployments$", twist=lambda body: {**body, "id": identity})
    request = asked_for(described(server.url))

    assert (await custom.start_build(request)).build_id == "b1"
    assert server.creates == {request.deployment_id: 1}


async def test_a_huge_answer_is_a_plain_error(custom: Custom, server: CustomStandIn) -> None:
    request, build, _ = await frozen(custom, server)
    server.fault("huge", "GET", "/b1$")

    with pytest.raises(DeploymentError, match="more than 10485760 bytes"):
        await custom.collect_report(request, build)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://u:p@h/", 'https://h/"><script>', ["javascript:x"], {}])
async def test_links_that_are_none_are_left_out(custom: Custom, server: CustomStandIn, url: Any) -> None:
    request, build, made = await frozen(custom, server)
    made.status = "succeeded"
    server.fault(
        "twisted", "GET", "/b1$", times=1000, twist=lambda body: {**body, "url": url, "preview": [url, "https://ok/"]}
    )

    publication = await custom.publish_build(request, build)
    report = await custom.collect_report(request, build)

    assert publication.deployment_url is None
    assert publication.preview_urls == ["https://ok/"]
    assert report.artifact_urls == []


# Making live, canceling


async def test_a_publish_whose_answer_is_lost_is_asked_for_again(custom: Custom, server: CustomStandIn) -> None:
    request, build, made = await frozen(custom, server)
    made.status = "succeeded"
    server.fault("lost", "POST", "/publish$", times=2)

    publication = await in_the_end(lambda: custom.publish_build(request, build))

    assert publication.deployment_url == "https://shop.example.org/"


async def test_a_refusal_that_says_done_is_done_and_another_is_said(custom: Custom, server: CustomStandIn) -> None:
    settings = described(server.url, requests={"publish": {"alsoDone": [409]}})
    request, build, made = await frozen(custom, server, settings)
    made.more = {"live": True, "url": "https://shop.example.org/"}

    assert (await custom.publish_build(request, build)).deployment_url == "https://shop.example.org/"

    with pytest.raises(DeploymentError, match="it is not built") as refused:
        await custom.publish_build(asked_for(described(server.url)), build)
    assert refused.value.code == ErrorCode.DEPLOY_FAILED


async def test_what_is_published_is_told_once_it_is_live(custom: Custom, server: CustomStandIn) -> None:
    request, build, made = await frozen(custom, server)
    made.status = "succeeded"
    server.fault("twisted", "GET", "/b1$", times=3, twist=lambda body: {**body, "live": "not yet", "url": None})

    assert (await custom.publish_build(request, build)).deployment_url == "https://shop.example.org/"
    assert len(server.asked("GET", "/b1$")) == 4


async def test_a_build_that_is_not_found_at_first_is_canceled_all_the_same(
    custom: Custom, server: CustomStandIn
) -> None:
    request, build, made = await frozen(custom, server)
    server.fault("status", "GET", "/b1$", times=2, status=404, body=b"{}")
    server.fault("status", "POST", "/cancel$", status=404, body=b"{}")

    await custom.cancel_build(request, build)

    assert made.status == "canceled"
