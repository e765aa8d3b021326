"""How things look on a terminal.

Rule: what comes from outside (messages, names, log lines) is printed as text: never as markup, never as a terminal's
control sequence.
"""

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from domain import log_text
from domain.audit import AuditEntry
from domain.deployment import Deployment
from domain.project import Environment, Project
from domain.reconciliation import Checkup
from domain.secret import SecretKey, SecretVersion
from domain.states import Status
from domain.token import Token

EXIT_CODE_OF = {Status.SUCCEEDED: 0, Status.FAILED: 1, Status.CANCELED: 3, Status.TIMEOUT: 4}

_COLOR_OF = {Status.SUCCEEDED: "green", Status.FAILED: "red", Status.CANCELED: "yellow", Status.TIMEOUT: "red"}


_IDS = {"deployment", "environment", "token"}
"""Columns of ids."""


def plain(text: object, style: str = "") -> Text:
    return Text(log_text.plain("\n".join(log_text.lines_of(str(text)))), style)


def status_text(deployment: Deployment) -> Text:
    waiting = f" (waits for {deployment.waiting_on})" if deployment.waiting_on else ""
    return plain(deployment.status + waiting, _COLOR_OF.get(deployment.status, "cyan"))


def show_deployment(console: Console, deployment: Deployment) -> None:
    repository = deployment.metadata.repository
    rows = {
        "deployment": deployment.id,
        "project": f"{deployment.project_id}, {deployment.configuration.environment} no. {deployment.sequence}",
        "status": status_text(deployment),
        "ref": deployment.source_ref,
        "commit": repository and repository.commit and f"{repository.commit[:12]}  {_first_line(repository.message)}",
        "message": deployment.message,
        "by": deployment.triggered_by,
        "created": deployment.created_at.isoformat(" ", "seconds"),
        "duration": None if deployment.duration is None else f"{deployment.duration:.1f} s",
        "url": deployment.deployment_url,
        "preview": ", ".join(deployment.preview_urls),
        "temporal": deployment.links.temporal,
    }
    _show_rows(console, rows)
    show_failure(console, deployment)


def _show_rows(console: Console, rows: dict[str, object]) -> None:
    grid = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        if value:
            grid.add_row(plain(name, "dim"), value if isinstance(value, Text) else plain(value))
    console.print(grid)


def show_failure(console: Console, deployment: Deployment) -> None:
    error = deployment.error
    if error is None:
        return
    ended = "" if error.exit_code is None else f" (exit code {error.exit_code})"
    console.print(plain(f"{error.code}: {error.message}{ended}", "red"))
    for line in error.log_excerpt:
        console.print(plain(f"  {line}", "dim"))
    if error.hint:
        console.print(plain(error.hint))


def show_deployments(console: Console, deployments: Iterable[Deployment]) -> None:
    rows = (
        (
            plain(one.id),
            plain(f"{one.configuration.environment} {one.sequence}"),
            status_text(one),
            plain(one.source_ref),
            plain((one.commit_sha or "")[:12]),
            plain(one.created_at.strftime("%Y-%m-%d %H:%M")),
            plain("" if one.duration is None else f"{one.duration:.1f} s"),
        )
        for one in deployments
    )
    _show_table(console, ("deployment", "environment", "status", "ref", "commit", "created", "duration"), rows)


def show_projects(console: Console, projects: Iterable[Project]) -> None:
    rows = ((plain(one.id), plain(one.provider), plain(one.repository_url or ""), plain(one.name)) for one in projects)
    _show_table(console, ("project", "provider", "repository", "name"), rows)


def show_project(console: Console, project: Project) -> None:
    rows = {name: value for name, value in project.model_dump(mode="json", by_alias=True).items() if value != {}}
    _show_rows(console, dict(rows))


def show_environments(console: Console, environments: Iterable[Environment]) -> None:
    rows = (
        (
            plain(one.id),
            plain(one.name),
            plain(one.type),
            plain(one.branch or ""),
            plain(one.expires_at.strftime("%Y-%m-%d %H:%M UTC") if one.expires_at else ""),
            plain("default" if one.is_default else ""),
        )
        for one in environments
    )
    _show_table(console, ("environment", "name", "type", "branch", "expires", ""), rows)


def show_secrets(console: Console, versions: Mapping[str, SecretVersion]) -> None:
    rows = (
        (
            plain(name),
            plain(f"v{one.version}"),
            plain("" if one.updated_at is None else one.updated_at.strftime("%Y-%m-%d %H:%M:%S")),
            plain(one.updated_by or ""),
        )
        for name, one in versions.items()
    )
    _show_table(console, ("secret", "version", "set at", "by"), rows)


def show_secret_keys(console: Console, keys: Iterable[SecretKey]) -> None:
    rows = (
        (plain(one.id), plain(one.values), plain("seals" if one.seals else "opens" if one.known else "not here"))
        for one in keys
    )
    _show_table(console, ("key", "values", ""), rows)


def show_audit(console: Console, entries: Iterable[AuditEntry]) -> None:
    rows = (
        (
            plain(one.at.strftime("%Y-%m-%d %H:%M:%S")),
            plain(one.actor),
            plain(one.action),
            plain(one.project_id or ""),
            plain(one.target),
            plain(one.reason or ""),
        )
        for one in entries
    )
    _show_table(console, ("at", "actor", "action", "project", "target", "reason"), rows)


def show_tokens(console: Console, tokens: Iterable[Token]) -> None:
    rows = (
        (
            plain(one.id),
            plain(one.subject),
            plain(" ".join(one.scopes)),
            plain(" ".join(one.projects)),
            plain("" if one.expires_at is None else one.expires_at.strftime("%Y-%m-%d %H:%M")),
        )
        for one in tokens
    )
    _show_table(console, ("token", "subject", "scopes", "projects", "expires"), rows)


def show_checkup(console: Console, checkup: Checkup) -> None:
    parts = (
        (plain(one.name), plain(one.problem or "fine", "red" if one.problem else "green")) for one in checkup.parts
    )
    _show_table(console, ("part", ""), parts)
    if (done := checkup.round) is None:
        console.print(plain("records and workflows were not looked at", "red"))
        return
    counts = (
        ("records that run without a workflow", done.zombies),
        ("workflows without a record that runs", done.orphan_workflows),
        ("lanes held by finished deployments", done.held_lanes),
        ("free lanes that are waited for", done.idle_lanes),
        ("accepted and not yet started", done.not_started),
        ("news not yet delivered", done.undelivered),
    )
    _show_table(
        console, ("found", ""), ((plain(what), plain(count, "red" if count else "green")) for what, count in counts)
    )
    if done.findings:
        found = ((plain(one.id), plain(one.problem), plain(one.mend or "not yet mended")) for one in done.findings)
        _show_table(console, ("deployment", "problem", "mended"), found)
    if checkup.mended:
        console.print(plain("mended so far: " + ", ".join(f"{n} {what}" for what, n in checkup.mended.items()), "dim"))


def _show_table(console: Console, heads: tuple[str, ...], rows: Iterable[tuple[Text, ...]]) -> None:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for number, head in enumerate(heads):
        # The first column is what one copies: it is never cut.
        table.add_column(head, no_wrap=True, min_width=36 if number == 0 and head in _IDS else None)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]
