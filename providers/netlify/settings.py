"""A project's `providerSettings` for Netlify."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from providers.project_settings import ProjectSettings

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")]


class Settings(ProjectSettings):
    provider = "netlify"
    accepted = "siteId, accountId, mode, logs, clearCache"

    site_id: Id = Field(description="the site's id, or its domain")
    account_id: Id | None = Field(default=None, description="without it, variables are not handed over")
    mode: Literal["git", "files"]
    logs: bool = Field(default=True, description="read the build's log, for which Netlify promises no API")
    clear_cache: bool = Field(default=False, description="of mode git: build without what earlier builds kept")
