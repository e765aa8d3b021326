"""What all commands of the client share: finding the service, writing answers, making requests of what was typed."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from client.client import DeploymentsClient
from client.discovery import find_service
from domain.wire import Request, Wire

Result = TypeVar("Result")
Model = TypeVar("Model", bound=Request)

_MAYBE_SECRET = {"secrets", "environment_variables", "environmentVariables"}
"""Maps whose values are not repeated, whatever is wrong with them."""

Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]

console = Console(highlight=False, width=None if sys.stdout.isatty() else 240)
"""What is piped into another program is not cut to the width of a terminal."""
errors = Console(highlight=False, stderr=True, soft_wrap=True)


def calling(work: Callable[[DeploymentsClient], Awaitable[Result]]) -> Result:
    """Runs `work` with a client of the service that is found from here."""

    async def run() -> Result:
        service = find_service(os.environ, Path.cwd())
        async with DeploymentsClient(service.url, service.token) as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except KeyboardInterrupt:
        errors.print("interrupted; what was accepted goes on", style="yellow")
        raise typer.Exit(130) from None


def request(model: type[Model], **said: Any) -> Model:
    """A request of what was said on the command line; what was not said is left to the service."""
    try:
        return model(**{name: value for name, value in said.items() if value is not None})
    except ValidationError as error:
        wrong = error.errors()[0]
        # pydantic marks a member whose name is wrong by a last part of its own.
        place = [part for part in wrong["loc"] if part != "[key]"]
        what = place[-1] if _MAYBE_SECRET.intersection(place) else str(wrong.get("input"))[:80]
        raise typer.BadParameter(f"{what!r} is not accepted: {wrong['msg']}") from None


def write_json(found: Wire | Sequence[Wire]) -> None:
    """One document, for people and `jq` alike."""
    document = _document(found) if isinstance(found, BaseModel) else [_document(one) for one in found]
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def warn(warnings: Sequence[str] | None) -> None:
    """Beside the answer, which programs read."""
    for warning in warnings or ():
        errors.print(f"warning: {warning}", style="yellow", markup=False)


def write_line(name: str, document: Wire) -> None:
    """One line of JSON lines, at once."""
    sys.stdout.write(json.dumps({name: _document(document)}) + "\n")
    sys.stdout.flush()


def _document(one: BaseModel) -> Any:
    return one.model_dump(mode="json", by_alias=True)
