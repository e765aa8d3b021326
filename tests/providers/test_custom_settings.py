"""Descriptions that could not work are refused when they are saved, and each refusal names its field."""

import copy
from typing import Any

import pytest

from domain.errors import DeploymentError, ErrorCode
from providers.custom.provider import Custom
from tests.providers.custom_stand_in import described, merged
from tests.providers.hostile_hosts import NO_HOSTS

GOOD = described("https://deploy.example.org/api")
TEXT_LOG = {"kind": "text", "lines": None, "next": None, "line": None}
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"baseUrl": None}, "/baseUrl", "missing"),
    ({"baseUrl": "ftp://x/"}, "/baseUrl", "http(s)"),
    ({"baseUrl": "https://u:p@x/"}, "/baseUrl", "credentials"),
    ({"baseUrl": "https://x/?a=1"}, "/baseUrl", "query"),
    ({"baseUrl": "file:///etc/passwd"}, "/baseUrl", "http(s)"),
    *(({"baseUrl": f"https://{host}/v1"}, "/baseUrl", "http(s)") for host in NO_HOSTS),
    ({"requests": {"cancel": {"url": "https://xn--a-/"}}}, "/requests/cancel/url", "http(s)"),
    ({"colour": 1}, "/colour", "not known"),
    ({"words": None}, "/words", "missing"),
    ({"words": {"succeeded": None}}, "/words", "success"),
    ({"words": {"failed": None}}, "/words", "failure"),
    ({"words": {"canceled": None}}, "/words", "canceled"),
    ({"words": {"queued": "waiting"}}, "/words/queued", "initializing"),
    ({"words": {"a/b~c": "waiting"}}, "/words/a~1b~0c", "initializing"),
    ({"requests": {"create": None}}, "/requests/create", "missing"),
    ({"requests": {"status": None}}, "/requests/status", "missing"),
    ({"requests": {"destroy": {"url": "/"}}}, "/requests/destroy", "not known"),
    ({"requests": {"create": {"retry": 1}}}, "/requests/create/retry", "not known"),
    ({"requests": {"create": {"method": "GET"}}}, "/requests/create/method", "POST"),
    ({"requests": {"cancel": {"method": "GET"}}}, "/requests/cancel/method", "DELETE"),
    ({"requests": {"find": {"method": "DELETE"}}}, "/requests/find/method", "GET"),
    ({"requests": {"cancel": {"method": "TRACE"}}}, "/requests/cancel/method", "DELETE"),
    ({"requests": {"status": {"body": {}}}}, "/requests/status/body", "cannot go with GET"),
    ({"requests": {"cancel": {"url": "cancel"}}}, "/requests/cancel/url", "begins with /"),
    ({"requests": {"cancel": {"url": "gopher://x/y"}}}, "/requests/cancel/url", "http(s)"),
    ({"requests": {"cancel": {"url": "https://{projectId}.example.org/"}}}, "/requests/cancel/url", "http(s)"),
    ({"requests": {"cancel": {"url": "https://a@example.org/"}}}, "/requests/cancel/url", "http(s)"),
    ({"requests": {"cancel": {"url": "/x?id={buildId}"}}}, "/requests/cancel/url", "query"),
    ({"requests": {"cancel": {"url": "/{buildId"}}}, "/requests/cancel/url", "{{ and }}"),
    ({"requests": {"cancel": {"url": "/{buildId!r}"}}}, "/requests/cancel/url", "more than a name"),
    ({"requests": {"cancel": {"url": "/{buildId.__class__}"}}}, "/requests/cancel/url", "buildId.__class__"),
    ({"requests": {"cancel": {"url": "/{variables.X}"}}}, "/requests/cancel/url", "variables.X"),
    ({"requests": {"cancel": {"url": "/{secrets.X}"}}}, "/requests/cancel/url", "secrets.X"),
    ({"requests": {"create": {"url": "/{buildId}"}}}, "/requests/create/url", "buildId"),
    ({"requests": {"create": {"body": {"a": ["{nobody}"]}}}}, "/requests/create/body/a/0", "nobody"),
    ({"requests": {"create": {"body": {"a": "x{variables}"}}}}, "/requests/create/body/a", "stands alone"),
    ({"requests": {"create": {"body": {"a": "{variables.}"}}}}, "/requests/create/body/a", "variables."),
    ({"requests": {"create": {"body": {"a": "{configuration.x}"}}}}, "/requests/create/body/a", "configuration.x"),
    ({"requests": {"create": {"body": {"a": "{0}"}}}}, "/requests/create/body/a", "'0'"),
    ({"requests": {"create": {"query": {"a": "{secrets.X}"}}}}, "/requests/create/query/a", "secrets.X"),
    ({"requests": {"create": {"query": {"a": "{variables}"}}}}, "/requests/create/query/a", "stands alone"),
    ({"requests": {"create": {"query": {"a": 1}}}}, "/requests/create/query/a", "string"),
    ({"requests": {"create": {"headers": {"authorization": "x"}}}}, "/requests/create/headers/authorization", "auth"),
    ({"requests": {"create": {"headers": {"Host": "x"}}}}, "/requests/create/headers/Host", "connection"),
    ({"requests": {"create": {"headers": {"a b": "x"}}}}, "/requests/create/headers/a b", "pattern"),
    ({"requests": {"create": {"headers": {"a": "x\r\ny"}}}}, "/requests/create/headers/a", "ASCII"),
    ({"requests": {"create": {"answer": {"id": "id"}}}}, "/requests/create/answer/id", "JSON pointer"),
    ({"requests": {"create": {"answer": {"id": "/a~2"}}}}, "/requests/create/answer/id", "JSON pointer"),
    ({"requests": {"create": {"answer": {"id": None}}}}, "/requests/create/answer/id", "missing"),
    ({"requests": {"find": {"answer": {"id": None}}}}, "/requests/find/answer/id", "missing"),
    ({"requests": {"find": {"answer": {"match": None}}}}, "/requests/find/answer/match", "ours"),
    ({"requests": {"status": {"answer": {"status": None}}}}, "/requests/status/answer/status", "missing"),
    ({"requests": {"status": {"answer": {"status": 7}}}}, "/requests/status/answer/status", "string"),
    ({"requests": {"publish": {"alsoDone": [200]}}}, "/requests/publish/alsoDone/0", "400"),
    ({"requests": {"logs": None}}, "/requests/logs", "missing"),
    ({"requests": {"logs": {"query": None}}}, "/requests/logs", "{cursor}"),
    ({"logs": None}, "/requests/logs", "of no use"),
    ({"logs": TEXT_LOG}, "/requests/logs", "{offset}"),
    ({"logs": {"lines": None}}, "/logs/lines", "missing"),
    ({"logs": {"next": None}}, "/logs/next", "missing"),
    ({"logs": {**TEXT_LOG, "line": {"message": ""}}}, "/logs/line", "of no use"),
    ({"logs": {"line": {"message": None}}}, "/logs/line/message", "missing"),
    ({"logs": {"levels": {"x": "loud"}}}, "/logs/levels/x", "debug"),
    ({"logs": {"kind": "socket"}}, "/logs/kind", "page"),
    ({"auth": {"secret": "a b"}}, "/auth/secret", "pattern"),
    ({"auth": {"type": "digest"}}, "/auth/type", "bearer"),
    ({"auth": {"type": "header"}}, "/auth/header", "missing"),
    ({"auth": {"type": "basic"}}, "/auth/user", "missing"),
    ({"auth": {"prefix": "x"}}, "/auth/prefix", "of no use"),
    ({"webhooks": {"scheme": "hmac-sha256"}}, "/webhooks/header", "missing"),
    ({"webhooks": {"header": "x"}}, "/webhooks/header", "of no use"),
    ({"webhooks": {"scheme": "none"}}, "/webhooks/scheme", "standard-webhooks"),
    ({"poll": {"shortestSeconds": 0.01}}, "/poll/shortestSeconds", "0.1"),
    ({"poll": {"shortestSeconds": 9, "longestSeconds": 8}}, "/poll/longestSeconds", "shorter"),
    ({"timeoutSeconds": 600}, "/timeoutSeconds", "120"),
    ({"timeoutSeconds": "7"}, "/timeoutSeconds", "number"),
    ({"idempotentCreate": "yes"}, "/idempotentCreate", "boolean"),
]


@pytest.mark.parametrize(("changed", "pointer", "why"), WRONG)
def test_what_cannot_work_is_refused_by_name(changed: dict[str, Any], pointer: str, why: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        Custom.check_settings(merged(GOOD, changed), None)

    assert refused.value.code == ErrorCode.INVALID_REQUEST
    fields = dict(refused.value.fields)
    assert why in fields["/providerSettings" + pointer]
    assert "/providerSettings" + pointer in refused.value.message


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"auth": None, "webhooks": None, "poll": None},
        {"requests": {"find": None, "cancel": None, "publish": None, "repoint": None}},
        {
            "requests": {
                "find": {"url": "/by-key/{deploymentId}", "query": None, "answer": {"items": None, "match": None}}
            }
        },
        {"requests": {"cancel": {"method": "DELETE", "url": "https://other.example.org:8443/{buildId}"}}},
        {
            "requests": {
                "create": {"headers": {"X-Second": "{secrets.SECOND}"}, "body": {"query": "{{ deploy {{ id }} }}"}}
            }
        },
        {"webhooks": {"scheme": "hmac-sha256", "header": "X-Signature", "prefix": "sha256="}},
        {"auth": {"type": "basic", "user": "ada"}},
        {"logs": TEXT_LOG, "requests": {"logs": {"headers": {"Range": "bytes={offset}-"}, "query": None}}},
    ],
)
def test_what_can_work_is_accepted_and_left_as_it_is(changed: dict[str, Any]) -> None:
    settings = merged(GOOD, changed)
    before = copy.deepcopy(settings)

    Custom.check_settings(settings, None)

    assert settings == before


def test_what_is_nested_without_end_is_refused() -> None:
    body: Any = "x"
    for _ in range(900):
        body = [body]

    with pytest.raises(DeploymentError) as refused:
        Custom.check_settings(merged(GOOD, {"requests": {"create": {"body": {"a": body}}}}), None)

    assert refused.value.fields == [("/providerSettings/requests/create/body", "is nested more than 20 levels deep")]


def test_all_that_is_wrong_is_said_at_once_and_not_without_end() -> None:
    unknown = {f"field-{number}" + "x" * 300: 1 for number in range(50)}

    with pytest.raises(DeploymentError) as refused:
        Custom.check_settings(merged(GOOD, unknown), None)

    assert len(refused.value.fields) == 20
    assert len(refused.value.message) <= 1000
