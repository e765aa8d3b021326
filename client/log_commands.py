"""Logs on the command line: of one deployment, as it is or as it grows, and a search over a project's."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from client.client import DeploymentsClient
from client.command import Json, calling, console, write_json, write_line
from client.log_view import LogPrinter, MatchPrinter
from domain.log import DeploymentLog, LogFilter, LogLevel, LogMatch

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class _ReadByDefault(TyperGroup):
    """`logs ID` is `logs show ID`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *self.get_help_option_names(ctx)}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


logs_app = typer.Typer(
    help="What deployments have said: `logs DEPLOYMENT`, `logs search PROJECT WORDS`.",
    cls=_ReadByDefault,
    no_args_is_help=True,
)

Level = Annotated[LogLevel | None, typer.Option("--level", "-l", help="That and above.")]
Step = Annotated[str | None, typer.Option("--step", help="clone, install, build, publish or one of the build's own.")]
CaseSensitive = Annotated[bool, typer.Option("--case-sensitive", help="Tell A from a.")]


def _moment(said: str) -> datetime:
    if ago := _AGO.fullmatch(said):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        return datetime.fromisoformat(said).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("expected a time such as 2026-11-23T08:30, or how long ago, such as 10m") from None


Since = Annotated[
    datetime | None,
    typer.Option("--since", parser=_moment, metavar="TIME", help="From then on: 10m, 2h, 1d or a time."),
]


@logs_app.command("show", hidden=True)
def show_log(
    *,
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="The deployment's id.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay for the lines to come.")] = False,
    level: Level = None,
    step: Step = None,
    grep: Annotated[str | None, typer.Option("--grep", "-g", metavar="RE", help="Lines that match it (RE2).")] = None,
    case_sensitive: CaseSensitive = False,
    since: Since = None,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=1, max=1000, help="The last so many.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Each with its time and level, without colours.")] = False,
    as_json: Json = False,
) -> None:
    """What a deployment has said."""
    wanted = LogFilter(
        level=level, step=step, query=grep, regex=grep is not None, case_sensitive=case_sensitive, since=since
    )
    printer = LogPrinter(console, as_text=text)

    async def work(client: DeploymentsClient) -> None:
        async with aclosing(_lines(client, deployment, wanted, tail=tail, follow=follow)) as lines:
            if as_json and not follow:
                write_json([line async for line in lines])
                return
            async for line in lines:
                write_line("log", line) if as_json else printer.show(line)

    calling(work)


async def _lines(
    client: DeploymentsClient, deployment: str, wanted: LogFilter, *, tail: int | None, follow: bool
) -> AsyncGenerator[DeploymentLog, None]:
    after = 0
    if tail is not None:
        for line in await client.get_logs(deployment, wanted, tail=tail):
            yield line
            after = int(line.id)
    if tail is None or follow:
        async with aclosing(client.stream_logs(deployment, wanted, follow=follow, after=after)) as lines:
            async for line in lines:
                yield line


@logs_app.command("search")
def search(
    *,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project's id.")],
    query: Annotated[str, typer.Argument(metavar="WORDS", help="A part of the message.")],
    regex: Annotated[bool, typer.Option("--regex", "-E", help="The words are a regular expression (RE2).")] = False,
    case_sensitive: CaseSensitive = False,
    level: Level = None,
    step: Step = None,
    since: Since = None,
    context: Annotated[int, typer.Option("--context", "-C", min=0, max=10, help="Lines around each match.")] = 0,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Matches, at most.")] = 100,
    as_json: Json = False,
) -> None:
    """Find lines in the logs of a project, those of the newest deployment first."""
    wanted = LogFilter(query=query, regex=regex, case_sensitive=case_sensitive, level=level, step=step, since=since)
    printer = MatchPrinter(console)

    async def work(client: DeploymentsClient) -> None:
        found: list[LogMatch] = []
        async with aclosing(client.search_logs(project, wanted, context=context, limit=limit)) as matches:
            async for match in matches:
                found.append(match) if as_json else printer.show(match)
        if as_json:
            write_json(found)

    calling(work)
