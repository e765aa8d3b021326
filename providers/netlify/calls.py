"""What is asked of Netlify, and what is read of its answers. A field that is not needed is not read.

Source: the official description (@netlify/open-api). `LOG` alone is not in it: Netlify's own command line reads it.
"""

from typing import Any

from pydantic import AwareDatetime, Field

from domain.errors import ErrorCode
from domain.wire import Wire
from providers.http import Call

_PUBLISHING = ErrorCode.DEPLOY_FAILED
_MIB = 1024 * 1024

LIST = Call("list the deploys", "GET", "/sites/{site}/deploys")
BUILD = Call("start a build", "POST", "/sites/{site}/builds", limited_as="deploys")
CREATE = Call("create the deploy", "POST", "/sites/{site}/deploys", limited_as="deploys", seconds=60)
READ = Call("read the deploy", "GET", "/deploys/{id}", handed_back={404})
READ_SITE = Call("read the site", "GET", "/sites/{site}")
UPLOAD = Call("take a file", "PUT", "/deploys/{id}/files/{path}", refused_as=_PUBLISHING, seconds=300)
CANCEL = Call(
    "cancel the deploy",
    "POST",
    "/deploys/{id}/cancel",
    handed_back={400, 404, 409, 422},
    repeatable=True,
    urgent=True,
)
RESTORE = Call(
    "publish the deploy", "POST", "/sites/{site}/deploys/{id}/restore", repeatable=True, refused_as=_PUBLISHING
)
LOCK = Call("lock auto publishing", "POST", "/deploys/{id}/lock", repeatable=True, refused_as=_PUBLISHING)
LIST_VARIABLES = Call("list the variables", "GET", "/accounts/{account}/env")
ADD_VARIABLES = Call("add variables", "POST", "/accounts/{account}/env")
SET_VARIABLE = Call("set a variable", "PATCH", "/accounts/{account}/env/{key}")
LOG = Call("tell the build's log", "GET", "/deploys/{id}/log", vital=False, max_bytes=32 * _MIB, seconds=60)


class Started(Wire):
    """A build. How it stands is told by its deploy."""

    deploy_id: str | None = None


class Deploy(Wire):
    id: str = Field(min_length=1)
    state: str | None = None
    title: str | None = None
    error_message: str | None = None
    skipped: bool | None = None
    branch: str | None = None
    commit_ref: str | None = None
    created_at: AwareDatetime | None = None
    deploy_time: float | None = None
    framework: str | None = None
    required: list[str] | None = None
    url: str | None = None
    ssl_url: str | None = None
    deploy_url: str | None = None
    deploy_ssl_url: str | None = None
    admin_url: str | None = None


class Published(Wire):
    """The deploy that a site serves. `locked`: Netlify publishes no other by itself."""

    id: str | None = None
    locked: bool | None = None


class BuildSettings(Wire):
    repo_branch: str | None = None


class Site(Wire):
    url: str | None = None
    ssl_url: str | None = None
    published_deploy: Published | None = None
    build_settings: BuildSettings | None = None
    prevent_non_git_prod_deploys: bool | None = None

    @property
    def live(self) -> str | None:
        return self.published_deploy.id if self.published_deploy else None

    @property
    def locked(self) -> bool:
        return bool(self.published_deploy and self.published_deploy.locked)

    @property
    def production_branch(self) -> str | None:
        return self.build_settings.repo_branch if self.build_settings else None


class Value(Wire):
    value: str | None = None
    context: str | None = None
    context_parameter: str | None = None


class Variable(Wire):
    key: str
    values: list[Value] | None = None


class Record(Wire):
    """A line of a build's log. Which of the two fields has the text depends on its age."""

    ts: Any = None
    log: str | None = None
    message: str | None = None
    level: str | None = None
    section: str | None = None
