"""How much a build may use and how long its traces are kept. Defaults are for one builder of a few cores.

Rule: a limit that is hit ends the build with a message that names it; only the log is cut instead of ended.
"""

from pydantic import Field

from domain.log_budget import Budget
from domain.log_text import LINE_BYTES
from domain.wire import Wire

MIB = 1024 * 1024
GIB = 1024 * MIB


class Limits(Wire):
    workspace_bytes: int = Field(
        default=4 * GIB, description="checkout, dependencies, temporary files and output together"
    )
    memory_bytes: int = Field(
        default=4 * GIB, description="resident memory of all processes together; of each, its heap"
    )
    processes: int = 1024
    file_bytes: int = Field(default=2 * GIB, description="the largest single file")
    open_files: int = 65_536
    cpu_seconds: int = Field(default=2 * 3600, description="of each process; the wall clock is the deployment's")
    output_bytes: int = GIB
    output_files: int = 100_000
    log_lines: int = Field(default=Budget.lines, description="beginning and end together; what is between is counted")
    log_bytes: int = Field(default=Budget.bytes, description="of the messages in it, likewise")
    line_bytes: int = LINE_BYTES


class Retention(Wire):
    """What a site points to as production, and what still runs, is kept beyond all of this."""

    keep_releases: int = Field(default=10, description="of each project and environment")
    keep_days: int = Field(default=30, description="of a release; an older one goes whatever the number")
    keep_builds_hours: int = Field(default=72, description="log and state of a build that ended")
    keep_workspaces_hours: int = Field(default=6, description="the workspace of a build that failed, for a look at it")
    keep_caches_days: int = Field(default=30, description="downloaded packages of a project that was not built since")
    cache_bytes: int = Field(default=5 * GIB, description="downloaded packages of one project; then they start anew")
