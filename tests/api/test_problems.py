"""Every refusal is a problem document with a known code, and says nothing of our inside."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.problems import ENDINGS, STATUS_OF
from domain.errors import ErrorCode
from tests.api.conftest import FIRST_TOKEN, PROJECT, Api, Start

DOCS = Path(__file__).parents[2] / "docs" / "api.md"


def test_every_code_has_a_status_or_is_only_an_ending() -> None:
    assert set(STATUS_OF) | ENDINGS == set(ErrorCode)
    assert not set(STATUS_OF) & ENDINGS


def test_the_documentation_lists_every_code_with_its_status() -> None:
    rows = [line.split("|") for line in DOCS.read_text().splitlines() if line.startswith("| `deployment/")]
    documented = {row[1].strip().strip("`"): row[2].strip() for row in rows}
    assert set(documented) == set(ErrorCode)
    for code, statuses in documented.items():
        known = STATUS_OF.get(ErrorCode(code))
        assert (str(known) in statuses) if known else not statuses, code


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b'{"projectId": NaN}', {}, 400),
        (b'{"projectId": "\\ud800"}', {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[" * 5000, {}, 400),
        (b"", {}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": ""}, 415),
        (b"null", {}, 422),
        (b"[]", {}, 422),
        (b'{"projectId": 1e999}', {}, 400),
        (b'{"projectId": 123456789012345678901234567890}', {}, 422),
        (b'{"projectId": "a\\u0000b"}', {}, 422),
        (b'{"projectId": "site", "sourceRef": "main", "force": "true"}', {}, 422),
        (b"[" * 300 + b"]" * 300, {}, 422),
    ],
)
async def test_a_bad_body_is_refused_by_its_cause(api: Api, body: bytes, headers: dict[str, str], status: int) -> None:
    carried = {"Authorization": f"Bearer {FIRST_TOKEN}", "Content-Type": "application/json", **headers}
    answer = await api.client.post("/v1/deployments", content=body, headers=carried)
    _is_problem(answer.json(), status, "deployment/invalid-request")
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"


NUL_AND_HALVES = {"NUL": b"\\u0000", "half": b"\\ud800", "pair in disorder": b"\\udc00\\ud800"}
TEXTS = {
    "project": ("POST", "/v1/projects", b'{"id": "x", "name": "%s"}'),
    "settings": ("POST", "/v1/projects", b'{"id": "x", "provider": "custom", "providerSettings": {"%s": "%s"}}'),
    "variable": ("PATCH", "/v1/projects/site", b'{"configuration": {"environmentVariables": {"A": "%s"}}}'),
    "variable's name": ("PATCH", "/v1/projects/site", b'{"configuration": {"environmentVariables": {"%s": ""}}}'),
    "secret": ("PATCH", "/v1/projects/site", b'{"configuration": {"secrets": {"A": "%s"}}}'),
    "environment": ("POST", "/v1/projects/site/environments", b'{"name": "%s"}'),
    "ref": ("POST", "/v1/deployments", b'{"projectId": "site", "sourceRef": "a%s"}'),
    "message": ("POST", "/v1/deployments", b'{"projectId": "site", "sourceRef": "main", "message": "%s"}'),
    "breakGlass": ("POST", "/v1/deployments", b'{"projectId": "site", "sourceRef": "main", "breakGlass": "%s"}'),
    "retry": ("POST", "/v1/deployments/{id}/retry", b'{"message": "%s"}'),
    "rollback": ("POST", "/v1/deployments/{id}/rollback", b'{"message": "%s"}'),
    "comment": ("POST", "/v1/deployments/{id}/reject", b'{"comment": "%s"}'),
    "token": ("POST", "/v1/tokens", b'{"subject": "%s", "scopes": ["read"], "projects": ["*"]}'),
}


@pytest.mark.usefixtures("site")
async def test_text_that_the_database_has_not_is_refused_everywhere(api: Api) -> None:
    made = await api.make("/v1/deployments", {"projectId": "site", "sourceRef": "main"})
    carried = {"Authorization": f"Bearer {FIRST_TOKEN}", "Content-Type": "application/json"}
    for where, (method, path, body) in TEXTS.items():
        for odd, text in NUL_AND_HALVES.items():
            sent, address = body.replace(b"%s", text), path.replace("{id}", made["id"])
            answer = await api.client.request(method, address, content=sent, headers=carried)
            told = (answer.status_code, answer.json()["code"])
            assert told == (422 if odd == "NUL" else 400, "deployment/invalid-request"), (where, odd)


@pytest.mark.parametrize("odd", ["%00", "%ed%a0%80", "%ff"])
@pytest.mark.usefixtures("site")
async def test_text_that_the_database_has_not_is_no_bug_in_addresses_and_headers(api: Api, odd: str) -> None:
    for path in (
        f"/v1/projects/a{odd}",
        f"/v1/deployments/{odd}",
        f"/v1/projects/site/deployments?sourceRef={odd}",
        f"/v1/projects/site/deployments?triggeredBy={odd}",
        f"/v1/projects/site/deployments?environmentId={odd}&cursor={odd}",
        f"/v1/projects/site/logs?q={odd}",
        f"/v1/audit?actor={odd}&action={odd}&target={odd}",
        f"/v1/webhooks?sender={odd}",
    ):
        assert (await api("GET", path)).status_code < 500, path
    raw = [(b"Authorization", f"Bearer {FIRST_TOKEN}".encode()), (b"Content-Type", b"application/json")]
    for name in (b"Idempotency-Key", b"If-Match", b"X-Request-Id", b"traceparent", b"Last-Event-ID"):
        answer = await api.client.post(
            "/v1/deployments",
            content=b'{"projectId": "site", "sourceRef": "main", "force": true}',
            headers=[*raw, (name, b"a\xed\xa0\x80\xff")],
        )
        assert answer.status_code < 500, name
    raw = [(b"Authorization", b"Bearer \xed\xa0\x80")]
    assert (await api.client.get("/v1/projects", headers=raw)).status_code == 401


async def test_each_bad_field_is_named_by_a_pointer(api: Api) -> None:
    body = {**PROJECT, "bogus": 1, "configuration": {"outputDirectory": "a/../..", "environmentVariables": {"1": "x"}}}
    problem = (await api("POST", "/v1/projects", body)).json()
    pointers = {error["pointer"] for error in problem["errors"]}
    assert {"/bogus", "/configuration/outputDirectory", "/configuration/environmentVariables/1"} <= pointers


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("repositoryUrl", "ext::sh -c touch% /tmp/x"),
        ("repositoryUrl", "file:///etc"),
        ("repositoryUrl", "https://host/\x00"),
        ("provider", "nowhere"),
        ("id", "Not-A-Slug"),
        ("configuration", {"rootDirectory": "/etc"}),
        ("configuration", {"outputDirectory": ".."}),
        ("configuration", {"timeoutSeconds": 0}),
    ],
)
async def test_what_could_not_work_is_no_project(api: Api, field: str, value: object) -> None:
    answer = await api("POST", "/v1/projects", {**PROJECT, field: value})
    assert answer.status_code == 422
    assert any(error["pointer"].startswith(f"/{field}") for error in answer.json()["errors"])
    assert (await api("GET", "/v1/projects")).json()["total"] == 0


async def test_a_ref_that_is_an_option_is_no_ref(api: Api, site: dict[str, object]) -> None:
    answer = await api("POST", "/v1/deployments", {"projectId": "site", "sourceRef": "--upload-pack=touch /tmp/x"})
    _is_problem(answer.json(), 422, "deployment/invalid-source-ref")


async def test_a_body_over_the_cap_is_refused_before_and_while_it_is_read(start: Start) -> None:
    api = await start(max_body_bytes=1000)
    announced = await api("POST", "/v1/projects", {**PROJECT, "name": "x" * 2000})
    _is_problem(announced.json(), 413, "deployment/invalid-request")
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 100
            yield b" " * 100

    carried = {"Authorization": f"Bearer {FIRST_TOKEN}", "Content-Type": "application/json"}
    answer = await api.client.post("/v1/projects", content=endless(), headers=carried)
    _is_problem(answer.json(), 413, "deployment/invalid-request")
    assert read <= 1200


async def test_an_unknown_address_and_a_wrong_method_are_problems_too(api: Api) -> None:
    _is_problem((await api("GET", "/v2")).json(), 404, "deployment/not-found")
    wrong = await api("DELETE", "/v1/projects")
    _is_problem(wrong.json(), 405, "deployment/invalid-request")
    assert wrong.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize("identity", ["%00", "x" * 5000, "..%2f..", "%ff", "ä", "00000000-0000-0000-0000-000000000000"])
@pytest.mark.parametrize("path", ["/v1/projects/{}", "/v1/environments/{}", "/v1/deployments/{}/logs"])
async def test_an_id_with_odd_characters_is_one_that_does_not_exist(api: Api, path: str, identity: str) -> None:
    assert (await api("GET", path.format(identity))).status_code == 404


async def test_the_callers_trace_is_the_problems_trace(api: Api) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    sent = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert (await api("GET", "/v1/deployments/x", headers=sent)).json()["traceId"] == trace
    invalid = {"traceparent": f"00-{'0' * 32}-b7ad6b7169203331-01"}
    assert (await api("GET", "/v1/deployments/x", headers=invalid)).json()["traceId"] not in {trace, "0" * 32}


async def test_a_bug_of_ours_is_a_problem_without_a_traceback(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise ZeroDivisionError("the inside")

    api.app.router.add_api_route("/broken", broken)
    answer = await api("GET", "/broken")
    _is_problem(answer.json(), 500, "deployment/internal")
    assert "inside" not in answer.text
    assert "ZeroDivision" not in answer.text


async def test_a_database_that_is_away_is_said_with_a_time_to_wait(api: Api) -> None:
    await api.services.database.close()
    answer = await api("GET", "/v1/projects")
    _is_problem(answer.json(), 503, "deployment/unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["retryable"]


def _is_problem(problem: dict[str, object], status: int, code: str) -> None:
    assert set(problem) >= {
        "type", "title", "status", "detail", "instance", "code", "retryable", "errors", "traceId",
    }  # fmt: skip
    assert (problem["status"], problem["code"]) == (status, code)
