"""Merging, credentials and digests of configurations."""

import pytest
from pydantic import ValidationError

from domain.configuration import (
    ConfigurationChange,
    DeploymentConfiguration,
    digest,
    looks_like_credential,
    merge,
    outside,
)


def test_later_layers_win_and_maps_are_merged_key_by_key() -> None:
    project = {"build_command": "make", "environment_variables": {"A": "1", "B": "1"}}
    assert merge(project, {"environment_variables": {"B": "2"}}, {"build_command": "ninja"}) == {
        "build_command": "ninja",
        "environment_variables": {"A": "1", "B": "2"},
    }


def test_null_takes_a_value_of_a_lower_layer_away() -> None:
    assert merge({"a": 1, "m": {"x": "1", "y": "2"}}, {"a": None, "m": {"x": None}}) == {"m": {"y": "2"}}


@pytest.mark.parametrize(
    "name", ["NPM_TOKEN", "DB_PASSWORD", "API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "apikey"]
)
def test_a_variable_named_like_a_credential_is_a_secret(name: str) -> None:
    assert looks_like_credential(name)
    change = ConfigurationChange(environment_variables={name: "value", "PLAIN": "seen"})
    assert change.layer() == {"environment_variables": {"PLAIN": "seen"}}
    assert change.secret_layer() == {name: "value"}


@pytest.mark.parametrize("name", ["TOKENIZER", "MONKEY", "KEYBOARD", "PASSWORDLESS", "NODE_ENV"])
def test_an_ordinary_name_is_no_credential(name: str) -> None:
    assert not looks_like_credential(name)


def test_the_digest_depends_on_what_is_set_alone() -> None:
    one = DeploymentConfiguration(environment="production", environment_variables={"A": "1", "B": "2"})
    other = DeploymentConfiguration(environment_variables={"B": "2", "A": "1"}, environment="production")
    assert digest(one) == digest(other)
    assert digest(one) != digest(one.model_copy(update={"skip_deploy": True}))


def test_what_was_added_later_counts_for_the_digest_once_it_is_set() -> None:
    plain = DeploymentConfiguration(environment="production")
    assert digest(plain) == "sha256:7a6fb28d106b6399d135ffd9e62942cdbea4e9da7b0e77b4a663871681e56905"
    for later in ({"rollbackOnFailure": True}, {"healthCheck": {"path": "/up"}}):
        assert digest(DeploymentConfiguration.model_validate({"environment": "production", **later})) != digest(plain)


def test_a_health_check_is_merged_field_by_field_and_shown_as_it_was_sent() -> None:
    project = ConfigurationChange.model_validate({"healthCheck": {"path": "/up", "timeoutSeconds": 5}}).layer()
    merged = merge(project, ConfigurationChange.model_validate({"healthCheck": {"status": [200, 204]}}).layer())
    check = DeploymentConfiguration.model_validate({"environment": "production", **merged}).health_check
    assert check is not None
    assert (check.path, check.timeout_seconds, check.status) == ("/up", 5, [200, 204])
    shown = ConfigurationChange.stored(project).model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert shown == {"healthCheck": {"path": "/up", "timeoutSeconds": 5}}
    assert merge(project, ConfigurationChange(health_check=None).layer()) == {}


@pytest.mark.parametrize(
    "check",
    [{"path": "up"}, {"path": "/a b"}, {"path": "/#x"}, {"status": 99}, {"status": "ok"}, {"timeoutSeconds": 61}],
)
def test_a_health_check_that_could_not_be_made_is_refused(check: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ConfigurationChange.model_validate({"healthCheck": check})


@pytest.mark.parametrize("path", ["../..", "a/../../b", "/etc", "~root", "a\\..\\b"])
def test_a_path_that_leaves_the_repository_is_told(path: str) -> None:
    assert outside(path)


@pytest.mark.parametrize("path", ["dist", ".", "a/b", "..a", "a..b/c"])
def test_a_path_inside_is_told(path: str) -> None:
    assert not outside(path)


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="bogus"):
        ConfigurationChange.model_validate({"bogus": 1})
