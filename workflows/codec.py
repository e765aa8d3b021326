"""What Temporal is given to keep: every payload sealed by the ring of keys, so that histories hold no clear text.

Rules: a payload that is not sealed passes as it is, so that what was started before goes on. A sealed one opens in
its own namespace alone. Not sealed, because Temporal itself reads them: ids, names of steps, search attributes,
messages of failures (masked before).
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from google.protobuf import json_format
from pydantic import BaseModel, Field, ValidationError
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, PayloadCodec

from domain.errors import DeploymentError, ErrorCode

ENCRYPTED = b"binary/encrypted"
_ENCODING = "encoding"
_KEY = "encryption-key-id"

BASE64 = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_Base64 = Annotated[str, Field(pattern=BASE64)]


class Seals(Protocol):
    """The ring of keys. `key_id` names the key that seals; `open` raises ValueError where no key fits."""

    @property
    def key_id(self) -> str: ...
    def seal(self, text: bytes, purpose: str) -> bytes: ...
    def open(self, sealed: bytes, purpose: str) -> bytes: ...


class _Payload(BaseModel):
    """Protobuf's own reader takes nearly anything for one. A newer UI may send members that we do not know."""

    metadata: dict[str, _Base64] = {}
    data: _Base64 = ""


class _Payloads(BaseModel):
    payloads: list[_Payload] = []


class SealedPayloads(PayloadCodec):
    def __init__(self, seals: Seals, namespace: str) -> None:
        self._seals = seals
        self._purpose = f"temporal/{namespace}"

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._sealed(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Raises DeploymentError when a sealed payload opens with no key of the ring."""
        return [self._opened(payload) for payload in payloads]

    async def encode_document(self, document: Any) -> dict[str, Any]:
        """Of Temporal's protocol of codec servers: the JSON of `Payloads`. Raises DeploymentError (invalid-request)."""
        return _document(await self.encode(_payloads(document)))

    async def decode_document(self, document: Any) -> dict[str, Any]:
        """Raises DeploymentError (invalid-request)."""
        payloads = _payloads(document)
        try:
            return _document(await self.decode(payloads))
        except DeploymentError as error:
            raise DeploymentError(ErrorCode.INVALID_REQUEST, f"cannot be decoded: {error.message}") from error

    def _sealed(self, payload: Payload) -> Payload:
        metadata = {_ENCODING: ENCRYPTED, _KEY: self._seals.key_id.encode()}
        return Payload(metadata=metadata, data=self._seals.seal(payload.SerializeToString(), self._purpose))

    def _opened(self, payload: Payload) -> Payload:
        if payload.metadata.get(_ENCODING) != ENCRYPTED:
            return payload
        return Payload.FromString(self._seals.open(payload.data, self._purpose))


def data_converter(codec: PayloadCodec) -> DataConverter:
    """How we write values: as pydantic does, and then sealed."""
    return dataclasses.replace(pydantic_data_converter, payload_codec=codec)


def _payloads(document: Any) -> list[Payload]:
    try:
        read = _Payloads.model_validate(document, strict=True)
    except ValidationError as error:
        accepted = '{"payloads": [{"metadata": {NAME: BASE64}, "data": BASE64}]}'
        raise DeploymentError(ErrorCode.INVALID_REQUEST, f"these are no payloads; accepted: {accepted}") from error
    return list(json_format.ParseDict(read.model_dump(), Payloads()).payloads)


def _document(payloads: list[Payload]) -> dict[str, Any]:
    document: dict[str, Any] = json_format.MessageToDict(Payloads(payloads=payloads))
    return document
