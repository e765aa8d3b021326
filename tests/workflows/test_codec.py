"""Payloads are sealed on their way to Temporal, and opened with any key of the ring, in their namespace alone."""

import base64
import json

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from domain.errors import DeploymentError
from store.seal import Sealer
from tests.conftest import SECRET_KEYS
from tests.workflows.doubles import Script, start, workers
from workflows.codec import ENCRYPTED, SealedPayloads

NEW_KEY = "new:" + base64.b64encode(b"n" * 32).decode()
CLEAR = Payload(metadata={"encoding": b"json/plain"}, data=b'"a site"')


def codec(keys: str = SECRET_KEYS, namespace: str = "default") -> SealedPayloads:
    return SealedPayloads(Sealer(keys), namespace)


async def test_what_is_sealed_opens_again_and_shows_only_which_key_it_needs() -> None:
    (sealed,) = await codec().encode([CLEAR])
    assert dict(sealed.metadata) == {"encoding": ENCRYPTED, "encryption-key-id": b"test"}
    assert b"site" not in sealed.SerializeToString()
    assert await codec().decode([sealed]) == [CLEAR]


async def test_the_same_payload_is_never_sealed_to_the_same_bytes() -> None:
    one, other = await codec().encode([CLEAR, CLEAR])
    assert one.data != other.data


async def test_a_payload_in_clear_passes_as_it_is() -> None:
    assert await codec().decode([CLEAR, Payload()]) == [CLEAR, Payload()]


async def test_after_a_key_was_replaced_both_open() -> None:
    (before,) = await codec().encode([CLEAR])
    (after,) = await codec(f"{NEW_KEY},{SECRET_KEYS}").encode([CLEAR])
    assert (before.metadata["encryption-key-id"], after.metadata["encryption-key-id"]) == (b"test", b"new")
    assert await codec(f"{NEW_KEY},{SECRET_KEYS}").decode([before, after]) == [CLEAR, CLEAR]


@pytest.mark.parametrize("wrong", [codec(NEW_KEY), codec(namespace="elsewhere")])
async def test_no_other_key_and_no_other_namespace_opens_it(wrong: SealedPayloads) -> None:
    with pytest.raises(DeploymentError, match="cannot be opened"):
        await wrong.decode(await codec().encode([CLEAR]))


@pytest.mark.parametrize("data", [b"", b"\x04test", b"\x04test" + bytes(40), b"\xff"])
async def test_what_only_says_that_it_is_sealed_is_refused(data: bytes) -> None:
    forged = {"metadata": {"encoding": _base64(ENCRYPTED)}, "data": _base64(data)}
    with pytest.raises(DeploymentError, match="cannot be decoded"):
        await codec().decode_document({"payloads": [forged]})


async def test_the_history_of_a_whole_deployment_is_sealed_and_no_longer_than_it_was(client: Client) -> None:
    async with workers(client, Script()):
        handle = await start(client)
        assert await handle.result() == "succeeded"
    history = await handle.fetch_history()
    payloads = list(_payloads_in(json.loads(history.to_json())))
    assert len(payloads) > 10
    assert {payload["metadata"]["encoding"] for payload in payloads} == {_base64(ENCRYPTED)}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _payloads_in(document: object) -> list[dict[str, dict[str, str]]]:
    if isinstance(document, list):
        return [found for part in document for found in _payloads_in(part)]
    if not isinstance(document, dict):
        return []
    inside = [found for name, part in document.items() if name != "searchAttributes" for found in _payloads_in(part)]
    return [document, *inside] if "encoding" in document.get("metadata", {}) else inside
