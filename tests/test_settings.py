"""What the environment may say, and what is refused when a process starts."""

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
