"""What the environment may say, and what is refused when a process starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from settings import Settings, read
from tests.conftest import SECRET_KEYS
from tests.drawings import ROOT
from tests.servers import PATIENCE_SECONDS


def archive_of(monkeypatch: pytest.MonkeyPatch, place: str) -> str | None:
    monkeypatch.setenv("HEADWAY_LOG_ARCHIVE", place)
    return Settings(database_url=SecretStr("postgresql://127.0.0.1/x"), secret_keys=SecretStr(SECRET_KEYS)).log_archive


@pytest.mark.parametrize("place", ["/var/lib/logs", "logs", "s3://bucket", "s3://bucket/", "s3://bucket/of/ours"])
def test_an_archive_is_a_directory_or_a_bucket(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    assert archive_of(monkeypatch, place) == place


def test_an_empty_archive_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert archive_of(monkeypatch, "") is None


@pytest.mark.parametrize("place", ["s3://", "s3:///logs", "https://s3.example.org/bucket", "gs://bucket"])
def test_another_kind_of_archive_is_refused(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    with pytest.raises(ValidationError, match="expected a directory, or s3://bucket or s3://bucket/prefix"):
        archive_of(monkeypatch, place)


RULE = {"claims": {"sub": "*"}, "scopes": ["read"], "projects": ["*"]}
GITHUB = {"issuer": "https://github.example.org", "audience": "headway", "rules": [RULE]}
GITLAB = {**GITHUB, "issuer": "https://gitlab.example.org"}


def issuers_of(monkeypatch: pytest.MonkeyPatch, said: str) -> list[str]:
    monkeypatch.setenv("HEADWAY_OIDC_ISSUERS", said)
    settings = Settings(database_url=SecretStr("postgresql://127.0.0.1/x"), secret_keys=SecretStr(SECRET_KEYS))
    return [trusted.issuer for trusted in settings.oidc_issuers]


def test_no_issuer_is_trusted_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert issuers_of(monkeypatch, "") == issuers_of(monkeypatch, "[]") == []
    assert issuers_of(monkeypatch, json.dumps([GITHUB])) == ["https://github.example.org"]


def test_several_issuers_are_told_apart_by_their_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    named = [{**one, "rules": [{**RULE, "subject": f"{name}:{{sub}}"}]} for name, one in (("a", GITHUB), ("b", GITLAB))]
    assert issuers_of(monkeypatch, json.dumps(named)) == ["https://github.example.org", "https://gitlab.example.org"]
    with pytest.raises(ValidationError, match=r"a rule of https://gitlab\.example\.org has no subject"):
        issuers_of(monkeypatch, json.dumps([named[0], GITLAB]))


def test_an_issuer_without_tls_needs_private_addresses_to_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    local = json.dumps([{**GITHUB, "issuer": "http://127.0.0.1:9000"}])
    with pytest.raises(ValidationError, match="needs HEADWAY_ALLOW_PRIVATE_ADDRESSES=true"):
        issuers_of(monkeypatch, local)
    monkeypatch.setenv("HEADWAY_ALLOW_PRIVATE_ADDRESSES", "true")
    assert issuers_of(monkeypatch, local) == ["http://127.0.0.1:9000"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("https://github.example.org", r"is no JSON .*accepted: \[\{\"issuer\""),
        (json.dumps(GITHUB), "oidc_issuers\n  Input should be a valid list"),
        (json.dumps([GITHUB, GITHUB]), r"https://github\.example\.org is there twice"),
        (json.dumps([{**GITHUB, "rules": []}]), r"oidc_issuers\.0\.rules\n"),
        (json.dumps([{**GITHUB, "rules": [{**RULE, "claims": {}}]}]), r"oidc_issuers\.0\.rules\.0\.claims\n.*name at"),
        (json.dumps([{**GITHUB, "rules": [{**RULE, "scopes": ["all"]}]}]), r"rules\.0\.scopes\.0\n.*'read', 'deploy'"),
        (json.dumps([{"issuer": GITHUB["issuer"], "rules": [RULE]}]), r"oidc_issuers\.0\.audience\n  Field required"),
    ],
)
def test_issuers_that_cannot_be_meant_are_refused_by_place_and_reason(
    monkeypatch: pytest.MonkeyPatch, said: str, why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        issuers_of(monkeypatch, said)


WORKER = ["-m", "worker"]
API = ["-m", "uvicorn", "api.app:from_environment", "--factory", "--port", "0"]
GOOD = {"HEADWAY_DATABASE_URL": "postgresql://u:hidden@127.0.0.1/x", "HEADWAY_SECRET_KEYS": SECRET_KEYS}
WRONG = [
    ("DATABASE_URL", "postgresql://u:hidden@127.0.0.1:x y/x", "cannot be read; expected postgresql://user:password@"),
    ("DATABASE_POOL_SIZE", "0", "'0' is refused: Input should be greater than or equal to 1"),
    ("SECRET_KEYS", "k1:hidden", "expected id:base64 of 32 bytes, comma-separated"),
    ("SECRET_KEYS", "k1:hidd\u00e9n", "expected id:base64 of 32 bytes, comma-separated"),
    ("WORKER_ROLES", "builds,cooks", "at 1: 'cooks' is refused: Input should be 'workflows' or 'builds'"),
    ("WORKER_METRICS_ADDRESS", "localhost:9464", "'localhost:9464' is refused: expected IP:port"),
    ("WORKER_METRICS_ADDRESS", "127.0.0.1", "'127.0.0.1' is refused: expected IP:port"),
    ("ALLOW_PRIVATE_ADDRESSES", "perhaps", "'perhaps' is refused: Input should be a valid boolean"),
    ("BUILD_ENVIRONMENT", "hidden", 'is no JSON (Expecting value: line 1 column 1 (char 0)); accepted: {"NAME": "v'),
    ("BUILD_ENVIRONMENT", '{"A": ["hidden"]}', "at A: Input should be a valid string"),
    ("OIDC_ISSUERS", "[{}]", "at 0.issuer: Field required"),
    ("GITHUB_API_URL", "api.github.com", "'api.github.com' is refused: expected http://host or https://host"),
    ("EDGE_URL", "https://u:hidden@ ", "expected http://host or https://host"),
    ("LOG_ARCHIVE", "gs://bucket", "'gs://bucket' is refused: expected a directory, or s3://bucket"),
    ("LOG_LEVEL", "loud", "'loud' is refused: Input should be 'debug', 'info', 'warning' or 'error'"),
]


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **wrong: str) -> list[str]:
    """The lines with which a process ends."""
    for name, value in {**GOOD, **wrong}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        read()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "hidden" not in said
    return said.splitlines()


@pytest.mark.parametrize(("name", "value", "why"), WRONG)
def test_a_mistake_is_one_line_that_names_the_variable_and_what_is_accepted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, why: str
) -> None:
    line, *_ = refused(monkeypatch, capsys, **{f"HEADWAY_{name}": value})
    assert line.startswith(f"HEADWAY_{name}: {why}")


def ended(program: list[str], **environment: str) -> tuple[int, list[str]]:
    """The exit code of a real process and what it said."""
    process = subprocess.run(
        [sys.executable, *program],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return process.returncode, process.stdout.splitlines()


@pytest.mark.parametrize("program", [WORKER, API], ids=["worker", "api"])
def test_a_process_says_all_that_is_wrong_and_ends(program: list[str]) -> None:
    code, said = ended(program, HEADWAY_LOG_LEVEL="loud")
    assert (code, [line.partition(" ")[0] for line in said]) == (
        2,
        ["HEADWAY_DATABASE_URL:", "HEADWAY_SECRET_KEYS:", "HEADWAY_LOG_LEVEL:"],
    )


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"HEADWAY_DATA_DIR": f"{__file__}/data"}, "HEADWAY_DATA_DIR: [Errno 20] Not a directory"),
        (
            {"HEADWAY_DATA_DIR": "/tmp/[x]"},
            "HEADWAY_DATA_DIR: the edge cannot serve from '/tmp/[x]'; accepted is a path",
        ),
        ({"HEADWAY_GITHUB_APP_ID": "1", "HEADWAY_GITHUB_APP_KEY": "hidden"}, "HEADWAY_GITHUB_APP_KEY: the private key"),
    ],
)
def test_what_a_builder_finds_out_later_ends_it_likewise(
    database_url: str, temporal: str, tmp_path: Path, wrong: dict[str, str], why: str
) -> None:
    around = {"HEADWAY_DATABASE_URL": database_url, "HEADWAY_TEMPORAL_ADDRESS": temporal}
    mine = {"HEADWAY_WORKER_ROLES": "builds", "HEADWAY_DATA_DIR": str(tmp_path)}
    code, said = ended(WORKER, **{**GOOD, **around, **mine, **wrong})
    assert code == 2, said
    assert said[-1].startswith(why)
    assert not any("hidden" in line or "Traceback" in line for line in said)
