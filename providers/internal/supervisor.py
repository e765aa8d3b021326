"""One build, from fetching to release: a process of its own that outlives the worker which started it.

`python -m providers.internal.supervisor DIRECTORY` reads its instructions, secrets included, from standard input, takes
the directory's lock and goes to the background. Rules:
1. Who finds the lock taken or the build begun leaves: however many are started, one builds.
2. It ends with a final state in the directory, and with no process of the build alive.
3. It is one thread (see `processes`).
"""

import contextlib
import hashlib
import os
import signal
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from domain.errors import RETRYABLE, DeploymentError, ErrorCode
from domain.log import LogLevel
from domain.masking import Mask
from domain.result import BuildReport, DeploymentMetrics, DeploymentWarning, Failure
from providers.base import BuildStage
from providers.internal.builds import BuildDirectory, BuildState, Instructions, remove_tree
from providers.internal.git import Checkout, Patience, remote_of
from providers.internal.log_file import LogFile
from providers.internal.plan import Plan, Run, Toolbox, make_plan
from providers.internal.processes import adopt_orphans, kill_descendants
from providers.internal.releases import INDEX, OutputPlaces, Release, Releases, usual_sites
from providers.internal.reports import read_reports
from providers.internal.sandbox import Sandbox, find_bubblewrap
from providers.internal.source import Source
from providers.internal.steps import Steps, Watch
from providers.internal.variables import build_variables, write_tool_settings

_LOCK_SECONDS = 2.0
_STAGE_OF: dict[ErrorCode, BuildStage] = {ErrorCode.CANCELED: "canceled", ErrorCode.TIMEOUT: "timeout"}


class Supervisor:
    def __init__(self, build: BuildDirectory, instructions: Instructions) -> None:
        self.build = build
        self.instructions = instructions
        self.request = instructions.request
        self.log = LogFile(build.log, instructions.limits, Mask(self.request.secrets.values()))
        self.watch = Watch(build, instructions.limits, self.request.deadline)
        self.state = BuildState(stage="initializing", pid=os.getpid(), started_at=datetime.now(UTC))
        self.bubblewrap = find_bubblewrap() if instructions.bubblewrap else None

    def run(self) -> None:
        """Builds; whatever happens becomes a final state."""
        failure: Failure | None = None
        try:
            self._build()
        except DeploymentError as error:
            failure = self._failure(error)
        except Exception:  # noqa: BLE001  # a bug of ours: the build ends all the same, and the trace is in supervisor.log
            traceback.print_exc()
            failure = self._failure(DeploymentError(ErrorCode.INTERNAL, "the builder failed; its own log says why"))
        kill_descendants()
        if failure is None or failure.code != ErrorCode.CANCELED:
            self._report_tests()
        self._finish(failure)

    def _build(self) -> None:
        source = self._clone()
        tools = Toolbox(self.instructions.tools, self.build.home, os.environ.get("PATH", os.defpath))
        tools.choose_node(self.request.configuration.node_version)
        plan = make_plan(source, self.request.configuration, tools)
        self._tell(stage="building", step="install", report=BuildReport(framework=plan.framework))
        self._say("install", f"recognised: {plan.framework or 'no framework'}")
        places = OutputPlaces(source, plan.outputs, frozenset(usual_sites(source)), plan.hint)
        steps = self._steps(tools.readable)
        write_tool_settings(self.instructions, self.build.home)
        self._run(steps, "install", plan.install, source, tools)
        self._tell(step="build")
        self._run(steps, "build", plan.build, source, tools)
        self._release(places, plan)

    def _clone(self) -> Source:
        self._tell(step="clone")
        self.log.begin()
        if self.bubblewrap is None:
            text = "bubblewrap is not used here: the build is held by limits and its own directory alone"
            self._say("clone", text, LogLevel.WARN)
        request, url = self.request, self.request.repository_url or ""
        steps = self._steps([])
        read_before = self.instructions.cache / f".read-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
        patience = Patience(steps, known=read_before.exists(), tell=self._waits)
        private = self.instructions.allow_private_addresses
        remote = patience.until(lambda: remote_of(url, request.secrets, allow_private_addresses=private))
        self._say("clone", f"fetching {request.commit_sha or request.source_ref} of {remote.url}")
        checkout = Checkout(steps, remote, self.build.workspace, patience)
        repository = checkout.fetch(request.source_ref, request.commit_sha)
        with contextlib.suppress(OSError):  # a disk that is full, or a cache that was cleaned up
            read_before.touch()
        self._tell(repository=repository.model_copy(update={"message": self.log.mask.text(repository.message or "")}))
        self._say(
            "clone", f"{repository.commit} by {repository.author}: {(repository.message or '').partition(chr(10))[0]}"
        )
        return Source(self.build.workspace, request.configuration.root_directory)

    def _run(self, steps: Steps, step: str, runs: list[Run], source: Source, tools: Toolbox) -> None:
        self.log.begin()
        variables = build_variables(self.instructions, source, tools, self.state.repository)
        if not runs:
            self._say(step, "nothing to do")
        for run in runs:
            self._say(step, f"$ {run}")
            code = steps.logged(step, run.argv, variables, run.directory, [self.instructions.cache])
            if code != 0:
                raise DeploymentError(
                    ErrorCode.BUILD_FAILED, f"step {step} ended with exit code {code}", details={"exitCode": code}
                )

    def _release(self, places: OutputPlaces, plan: Plan) -> None:
        output = places.find(self.request.configuration.output_directory)
        self.watch()
        release = Releases(self.instructions.releases).add(self.request, output, self.instructions.limits, self.watch)
        name = output.relative_to(self.build.workspace.resolve())
        self._say("build", f"output {name}: {release.files} files, {release.bytes} bytes, {release.digest}")
        self._tell(report=self._report_of(release, plan, has_index=(output / INDEX).exists()))

    def _report_of(self, release: Release, plan: Plan, *, has_index: bool) -> BuildReport:
        warnings = []
        if not has_index:
            warnings.append(DeploymentWarning(message=f"the output has no {INDEX}: its / answers 404", step="build"))
        metrics = DeploymentMetrics(build_size=release.bytes, file_count=release.files)
        return BuildReport(metrics=metrics, artifact_id=release.digest, framework=plan.framework, warnings=warnings)

    def _report_tests(self) -> None:
        figures = read_reports(self.build.workspace)
        report = self.state.report
        taken = (datetime.now(UTC) - self.state.started_at).total_seconds()
        metrics = report.metrics.model_copy(
            update={
                "build_time": round(taken, 3),
                "tests_passed": figures.tests_passed,
                "tests_failed": figures.tests_failed,
                "coverage": figures.coverage,
            }
        )
        for warning in figures.warnings:
            self._say(self.state.step or "build", warning.message, LogLevel.WARN)
        update = {"metrics": metrics, "warnings": [*report.warnings, *figures.warnings]}
        self.state = self.state.model_copy(update={"report": report.model_copy(update=update)})

    def _failure(self, error: DeploymentError) -> Failure:
        excerpt = self.log.excerpt
        message = self.log.mask.text(error.message)
        self._say(self.state.step or "clone", message, LogLevel.ERROR)
        return Failure(
            code=error.code,
            message=message,
            phase=self.state.step,
            retryable=error.code in RETRYABLE,
            hint=error.details.get("hint"),
            exit_code=error.details.get("exitCode"),
            log_excerpt=excerpt,
        )

    def _finish(self, failure: Failure | None) -> None:
        """The log is whole before the final state is told; a workspace of a build that went well is of no more use."""
        self.log.close()
        stage = "built" if failure is None else _STAGE_OF.get(ErrorCode(failure.code), "failed")
        self._tell(stage=stage, failure=failure, finished_at=datetime.now(UTC))
        if failure is None:
            for directory in self.build.scratch:
                remove_tree(directory)

    def _steps(self, readable: list[Path]) -> Steps:
        sandbox = Sandbox(self.build, self.bubblewrap, readable)
        return Steps(sandbox, self.log, self.watch, self.instructions.limits)

    def _say(self, step: str, message: str, level: LogLevel = LogLevel.INFO) -> None:
        self.log.write(step, message, level)
        self.log.flush(at_once=True)

    def _waits(self, reason: str | None) -> None:
        if reason != self.state.waiting:
            self._tell(waiting=reason and self.log.mask.text(reason))

    def _tell(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)
        self.build.write_state(self.state)


def main(directory: str) -> int:
    build = BuildDirectory(Path(directory))
    instructions = Instructions.model_validate_json(sys.stdin.buffer.read())
    with contextlib.ExitStack() as held:
        if not _begin(build, held):
            return 0
        build.write_state(BuildState(stage="initializing", pid=os.getpid(), started_at=datetime.now(UTC)))
        if os.fork():
            os._exit(0)  # the lock goes on with the child
        _go_to_the_background(build)
        Supervisor(build, instructions).run()
    return 0


def _begin(build: BuildDirectory, held: contextlib.ExitStack) -> bool:
    """Takes the lock, unless the build was begun before. Somebody may hold it for an instant to look."""
    until = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < until and build.state() is None:
        if held.enter_context(build.lock()):
            return build.state() is None
        time.sleep(0.02)
    return False


def _go_to_the_background(build: BuildDirectory) -> None:
    os.setsid()
    adopt_orphans()
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(build.path / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    # Cancelling is a file, so that it is not forgotten; a polite signal means the same.
    signal.signal(signal.SIGTERM, lambda *_: build.cancel_file.touch())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
