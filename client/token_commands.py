"""The commands about tokens. The text of a token is shown once, when it is made, on standard output alone."""

import sys
from typing import Annotated

import typer

from client import show
from client.command import Json, calling, console, errors, request, write_json
from domain.page import PageRequest
from domain.token import EVERY_PROJECT, CreateTokenRequest, Scope

tokens_app = typer.Typer(help="Tokens: who may do what.", no_args_is_help=True)


@tokens_app.command("create")
def create_token(
    *,
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Whose it is, as the audit says.")],
    scope: Annotated[list[Scope], typer.Option("--scope", "-s", help="What it may; may be repeated.")],
    project: Annotated[
        list[str] | None, typer.Option("--project", "-p", help="Where; may be repeated; else everywhere.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends, such as 2027-01-01T00:00:00Z.")] = None,
    as_json: Json = False,
) -> None:
    """Create a token, and write it to standard output, this once."""
    wanted = request(
        CreateTokenRequest, subject=subject, scopes=scope, projects=project or [EVERY_PROJECT], expires_at=expires
    )
    made = calling(lambda client: client.create_token(wanted))
    if as_json:
        write_json(made)
        return
    errors.print(show.plain(f"token {made.id} of {made.subject}; this is its only time to be seen:"))
    sys.stdout.write(made.token + "\n")


@tokens_app.command("list")
def list_tokens(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100)] = 20, as_json: Json = False
) -> None:
    """The newest tokens that are not revoked, without their texts."""
    found = calling(lambda client: client.list_tokens(PageRequest(limit=limit)))
    write_json(found) if as_json else show.show_tokens(console, found.items)


@tokens_app.command("revoke")
def revoke_token(token: Annotated[str, typer.Argument(metavar="ID", help="The token's id.")]) -> None:
    """End a token at once, its open streams included."""
    calling(lambda client: client.revoke_token(token))
    errors.print(show.plain(f"{token} is revoked"))
