"""The keys that secrets are sealed under: for operators who replace one. Ids and counts, never keys."""

from fastapi import APIRouter, Response

from api.answers import json_answer
from api.auth import Operator
from api.describe import GUARDED, described
from api.services import Wired
from domain.secret import SecretKeys

router = APIRouter(prefix="/v1", tags=["secrets"])


@router.get(
    "/secret-keys",
    operation_id="listSecretKeys",
    summary="The keys of HEADWAY_SECRET_KEYS by their ids, and how many values each still seals",
    **described(200, SecretKeys, GUARDED),
)
async def list_secret_keys(services: Wired, caller: Operator) -> Response:
    del caller
    return json_answer(await services.secret_keys.list_keys())
