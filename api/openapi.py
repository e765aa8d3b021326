"""What `/openapi.json` says, drawn once from the routes.

Rule: what is left to say beyond FastAPI's own drawing is about schemas alone: bodies bear the names of the service
description, free-form objects tell their limits, and there is one shape of a refusal.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from api import requests
from api.describe import REFERENCE, Document
from api.problems import Problem

_TEXT: Document = {"type": "string", "pattern": r"^[^\x00]*$"}
_FREE_FORM: Document = {
    "JsonValue": {
        "description": "any JSON, without the character NUL",
        "anyOf": [
            _TEXT,
            {"type": "number"},
            {"type": "boolean"},
            {"type": "null"},
            {"type": "array", "items": {"$ref": REFERENCE.format(model="JsonValue")}},
            {"$ref": REFERENCE.format(model="JsonObject")},
        ],
    },
    "JsonObject": {
        "type": "object",
        "propertyNames": _TEXT,
        "additionalProperties": {"$ref": REFERENCE.format(model="JsonValue")},
    },
}

_ALIAS: Document = {"description": "accepted in place of the header, which is to be preferred", "readOnly": True}
"""`readOnly` is OpenAPI's word for a member that requests SHOULD NOT have. Testers leave it out then: they would call
it a contradiction that a key which was used before is refused."""

_NAMES = {body.__name__: name for name, body in requests.NAMES.items()}


def install(app: FastAPI, providers: list[str]) -> None:
    """Makes the app answer with our description. `providers` are those that a project may name."""
    drawn: list[Document] = []

    def openapi() -> Document:
        if not drawn:
            drawn.append(_draw(app, providers))
        return drawn[0]

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the description


def _draw(app: FastAPI, providers: list[str]) -> Document:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/"}],
    )
    _drop_default_refusals(document)
    _drop_null_parameters(document)
    schemas = document["components"]["schemas"]
    schemas |= _bodies() | _problem() | _FREE_FORM
    renamed: Document = _rename(document, {name: _short(name) for name in schemas})
    renamed["components"]["schemas"] = {
        _short(name): schema for name, schema in renamed["components"]["schemas"].items()
    }
    renamed["components"]["schemas"]["CreateProjectRequest"]["properties"]["provider"]["enum"] = providers
    return renamed


def _bodies() -> Document:
    bodies: list[tuple[type[Any], JsonSchemaMode]] = [(body, "validation") for body in requests.NAMES.values()]
    _, document = models_json_schema(bodies, by_alias=True, ref_template=REFERENCE)
    schemas: Document = document["$defs"]
    for schema in schemas.values():
        for name, member in schema.get("properties", {}).items():
            _close(member)
            if name == "idempotencyKey":
                member.update(_ALIAS)
    return schemas


def _close(member: Document) -> None:
    """NUL is refused in every string of every body, at any depth; a map's names follow its pattern, all of them."""
    for part in (member, *member.get("anyOf", ())):
        if part.get("additionalProperties") is True:
            del part["additionalProperties"]
            part["$ref"] = REFERENCE.format(model="JsonObject")
        if "patternProperties" in part:
            part["additionalProperties"] = False


def _problem() -> Document:
    document = Problem.model_json_schema(by_alias=True, ref_template=REFERENCE, mode="serialization")
    return {**document.pop("$defs"), "Problem": document}


def _short(name: str) -> str:
    """`TriggerBody` is the API's `TriggerDeploymentRequest`, `Page_Project_` is `ProjectPage`."""
    if name.startswith("Page_"):
        return name.removeprefix("Page_").removesuffix("_") + "Page"
    return _NAMES.get(name, name)


def _rename(value: Any, names: dict[str, str]) -> Any:
    """The document with its references following `names`."""
    if isinstance(value, dict):
        renamed = {key: _rename(member, names) for key, member in value.items()}
        if isinstance(reference := value.get("$ref"), str):
            model = reference.rpartition("/")[2]
            renamed["$ref"] = REFERENCE.format(model=names.get(model, model))
        return renamed
    return [_rename(item, names) for item in value] if isinstance(value, list) else value


def _drop_default_refusals(document: Document) -> None:
    """FastAPI describes its own 422 for each route with a parameter; ours are described by the routes."""
    for path in document["paths"].values():
        for operation in path.values():
            refusal = operation["responses"].get("422", {}).get("content", {}).get("application/json", {})
            if refusal.get("schema", {}).get("$ref", "").endswith("HTTPValidationError"):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _drop_null_parameters(document: Document) -> None:
    """A parameter that may be left out is not one that may be null: a query has no way to say that."""
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                options = parameter["schema"].pop("anyOf", ())
                for option in options:
                    if option != {"type": "null"}:
                        parameter["schema"] |= option
