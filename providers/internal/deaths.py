"""What becomes of a build whose supervisor has died: it is ended by whoever finds it, with all that it left running.

Rule: only who holds the directory's lock ends a build for its supervisor, so that there is one who does.
"""

import os
import signal
from datetime import UTC, datetime

from domain.errors import ErrorCode
from domain.result import Failure
from providers.base import BuildStage
from providers.internal.builds import BuildDirectory, BuildState
from providers.internal.processes import kill_marked


def settle(directory: BuildDirectory) -> bool:
    """Whether a build has ended; one whose supervisor has died is ended here, with all that it left running."""
    state = directory.state()
    if state is None or state.ended:
        return True
    with directory.lock() as free:
        state = directory.state()
        if not free or state is None:
            return state is None
        if not state.ended:
            kill_marked(directory.build_id, directory.workspace)
            directory.write_state(_died(directory, state))
    return True


def _died(directory: BuildDirectory, state: BuildState) -> BuildState:
    canceled = directory.cancel_file.exists()
    stage: BuildStage = "canceled" if canceled else "failed"
    failure = Failure(
        code=ErrorCode.CANCELED if canceled else ErrorCode.BUILD_FAILED,
        message="the build was canceled"
        if canceled
        else "the builder was ended from outside before the build was done",
        phase=state.step,
        retryable=not canceled,
        hint=None if canceled else "deploy again; if this repeats, see whether the host runs out of memory",
    )
    return state.model_copy(update={"stage": stage, "failure": failure, "finished_at": datetime.now(UTC)})


def gone(directory: BuildDirectory) -> BuildState:
    """The state of a build of which there is no trace."""
    message = f"there is no build {directory.build_id} on this host any more"
    failure = Failure(code=ErrorCode.BUILD_FAILED, message=message, retryable=True, hint="deploy again")
    return BuildState(stage="failed", pid=0, started_at=datetime.now(UTC), failure=failure)


def kill_supervisor(directory: BuildDirectory) -> None:
    """It does not listen. It holds the lock, so its number is not yet somebody else's."""
    state = directory.state()
    if state is not None and not state.ended and directory.supervised():
        os.kill(state.pid, signal.SIGKILL)
