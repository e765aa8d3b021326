"""What the provider refuses before anything is made, and what it says when it cannot start."""

from typing import Any

import pytest

from domain.errors import DeploymentError, ErrorCode
from providers.base import Capability
from providers.internal.provider import Internal
from tests.providers.conftest import MakeInternal, build_request, follow


@pytest.mark.parametrize(
    "configuration",
    [
        {"output_directory": "../.."},
        {"output_directory": "/etc"},
        {"output_directory": "a/../../b"},
        {"root_directory": "../x"},
        {"root_directory": "~root"},
    ],
)
async def test_paths_that_lead_out_start_nothing(internal: Internal, configuration: dict[str, Any]) -> None:
    with pytest.raises(DeploymentError) as refused:
        await internal.start_build(build_request("http://127.0.0.1:1/x", **configuration))

    assert refused.value.code == ErrorCode.INVALID_REQUEST
    assert not (internal.root / "builds").exists()


@pytest.mark.parametrize("name", ["../../etc", "a/b", ".", "", "a\0b", "x" * 200])
async def test_ids_that_are_no_names_start_nothing(internal: Internal, name: str) -> None:
    for field in ("deployment_id", "project_id"):
        request = build_request("http://127.0.0.1:1/x").model_copy(update={field: name})
        with pytest.raises(DeploymentError):
            await internal.start_build(request)

    assert not (internal.root / "builds").exists()


async def test_settings_are_refused_by_name_and_to_build_an_address_is_needed(internal: Internal) -> None:
    with pytest.raises(DeploymentError) as refused:
        internal.check_settings({"teamId": "x"}, None)
    assert [field for field, _ in refused.value.fields] == ["/providerSettings/teamId"]

    internal.check_settings({}, None)
    with pytest.raises(DeploymentError) as refused:
        await internal.start_build(build_request("x").model_copy(update={"repository_url": None}))
    assert [field for field, _ in refused.value.fields] == ["/repositoryUrl"]


def test_what_it_can_do_is_declared(internal: Internal) -> None:
    assert internal.name == "internal"
    assert internal.capabilities == {Capability.CANCEL, Capability.LIVE_LOGS, Capability.REPOINT}


async def test_a_builder_that_does_not_start_may_do_so_later(make_internal: MakeInternal) -> None:
    internal = make_internal(python="/bin/false")

    with pytest.raises(DeploymentError) as failed:
        await internal.start_build(build_request("http://127.0.0.1:1/x"))

    assert failed.value.code == ErrorCode.PROVIDER_ERROR


async def test_a_build_of_a_removed_directory_is_told_as_failed_with_what_to_do(internal: Internal) -> None:
    request = build_request("http://127.0.0.1:1/x")

    last = (await follow(internal, internal._build(request)))[-1]

    assert last.failure is not None
    assert last.failure.hint == "deploy again"
