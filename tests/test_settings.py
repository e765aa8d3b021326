"""What the environment may say, and what is refused when a process starts."""

import json

import pytest
from pydantic import SecretStr, ValidationError

from settings import Settings
from tests.conftest import SECRET_KEYS


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
