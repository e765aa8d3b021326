"""GitHub, as far as its pages need it: a workflow's runs with jobs and logs, Pages, deployments, an app's tokens.

What happens to a deployment is decided by its branch: `main` is deployed, `broken` fails, `endless` runs until it is
cancelled. A run goes on one phase whenever it is read. Fields that nobody reads are filled in from the description.
"""

import hashlib
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import jwt
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.providers.stand_in import Description, Fault, StandIn

OWNER, REPO, WORKFLOW = "octo", "site", "deploy.yml"
INPUTS = {"deployment_id", "environment", "ref"}
LAST_PHASE = 3
_UNDESCRIBED = {304, 401, 404, 409, 422}
"""Answers that GitHub's pages on errors and conditional requests describe for all operations, and few of them list."""


_NUMBERS = re.compile(rb"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{7,}|[0-9]+")


class _Judge(Description):
    """Judges what differs in numbers alone once: the description has no limits on them, and judging takes its time."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document)
        self._judged: dict[tuple[Any, ...], list[str]] = {}
        self._examples: dict[str, dict[str, Any]] = {}

    def of_request(self, request: Request, body: bytes) -> list[str]:
        headers = [request.headers.get("content-type"), "authorization" in request.headers]
        return self._once(request, body, headers, lambda: super(_Judge, self).of_request(request, body))

    def of_answer(self, request: Request, answer: Response) -> list[str]:
        headers = [answer.headers.get("content-type"), answer.status_code]
        return self._once(request, bytes(answer.body), headers, lambda: self._of_answer(request, answer))

    def _once(self, request: Request, body: bytes, headers: list[Any], judge: Callable[[], list[str]]) -> list[str]:
        url = f"{request.method} {request.url.path}?{request.url.query}".encode()
        key = (_NUMBERS.sub(b"0", url), _NUMBERS.sub(b"0", body), *headers)
        if key not in self._judged:
            self._judged[key] = judge()
        return self._judged[key]

    def _of_answer(self, request: Request, answer: Response) -> list[str]:
        path = next((p for m, p, *_ in self._operations if m == request.method and p.fullmatch(request.url.path)), None)
        known = next((set(o["responses"]) for _, p, o, _ in self._operations if p is path), set())
        if path is not None and answer.status_code in _UNDESCRIBED and str(answer.status_code) not in known:
            return []
        return super().of_answer(request, answer)

    def example(self, schema: str, /, **fields: Any) -> dict[str, Any]:
        """The least that the description's schema of that name allows, with these fields."""
        if schema not in self._examples:
            self._examples[schema] = self._filled(self.document["components"]["schemas"][schema])
        return {**self._examples[schema], **fields}

    def _filled(self, schema: dict[str, Any]) -> Any:
        schema = self._resolved(schema)
        if schema.get("nullable"):
            return None
        for kind in ("oneOf", "anyOf"):
            if kind in schema:
                return self._filled(schema[kind][0])
        if "allOf" in schema:
            return {name: value for part in schema["allOf"] for name, value in self._filled(part).items()}
        if "enum" in schema:
            return schema["enum"][0]
        if schema.get("type") == "object" or "properties" in schema:
            return {name: self._filled(schema["properties"][name]) for name in schema.get("required", [])}
        by_type: dict[str, Any] = {"integer": 1, "number": 1, "boolean": False, "array": []}
        by_format = {"uri": "https://example.org", "date-time": moment(time.time()), "email": "a@example.org"}
        return by_type.get(schema.get("type", "string"), by_format.get(schema.get("format", ""), "x"))


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def commit_id(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


@dataclass
class Run:
    id: int
    branch: str
    sha: str
    title: str
    inputs: dict[str, str]
    created: float = field(default_factory=time.time)
    attempt: int = 1
    phase: int = 0
    status: str | None = None
    conclusion: str | None = None
    cancelled: bool = False

    @property
    def last_phase(self) -> int:
        return {"endless": 1, "broken": 2}.get(self.branch, LAST_PHASE)

    @property
    def ended(self) -> bool:
        return self.cancelled or (self.phase >= self.last_phase and self.branch != "endless")

    @property
    def words(self) -> tuple[str, str | None]:
        """Status and conclusion."""
        if self.cancelled:
            return "completed", "cancelled"
        if self.ended:
            return self.status or "completed", self.conclusion or ("failure" if self.branch == "broken" else "success")
        return self.status or ("queued" if self.phase == 0 else "in_progress"), None


@dataclass
class PageBuild:
    id: int
    commit: str
    created: float = field(default_factory=time.time)
    words: list[str] = field(default_factory=lambda: ["queued", "building", "built"])


class GithubStandIn(StandIn):
    description = "github"

    def __init__(self) -> None:
        super().__init__()
        self.judge: _Judge = _Judge.named("github")
        self.heads = {branch: commit_id(branch) for branch in ("main", "broken", "endless")}
        self.commits: dict[str, str] = {sha: f"commit of {branch}" for branch, sha in self.heads.items()}
        self.runs: dict[int, Run] = {}
        self.names_runs = True
        self.dispatch_answers = 200
        self.list_lag = 0.0
        self.deaf_to_cancel = False
        self.run_word: str | None = None
        self.logs: dict[str, str] = {
            "build": LOG,
            "deploy": log("Deploying", "Reported success!"),
            "broken": FAILED_LOG,
        }
        self.logs_missing = 0
        self.log_link: Callable[[str], str] = lambda link: link
        self.leaked: list[str] = []
        self.pages_words: dict[str, list[str | None]] = {}
        self.page: dict[str, Any] | None = {"build_type": "workflow", "html_url": f"https://{OWNER}.github.io/{REPO}/"}
        self.builds: list[PageBuild] = []
        self.build_words = ["queued", "building", "built"]
        self.deployments: list[dict[str, Any]] = []
        self.statuses: dict[int, list[dict[str, Any]]] = {}
        self.tokens: set[str] | None = None
        """Those that are taken; None: any."""
        self.app_key: Any = None
        self.token_seconds = 3600.0
        self.made_tokens = 0
        self.chaos: random.Random | None = None
        """Makes three calls of ten fail, in all ways."""
        self.chaos_happened = 0

    def routes(self) -> list[Route]:
        repo = "/repos/{owner}/{repo}"
        run = repo + "/actions/runs/{run:int}"
        return [
            Route(repo, self._repository),
            Route(repo + "/commits/{ref}", self._commit),
            Route(repo + "/actions/workflows/{workflow}/dispatches", self._dispatch, methods=["POST"]),
            Route(repo + "/actions/workflows/{workflow}/runs", self._list_runs),
            Route(run, self._read_run),
            Route(run + "/jobs", self._jobs),
            Route(run + "/artifacts", self._artifacts),
            Route(run + "/cancel", self._cancel, methods=["POST"]),
            Route(run + "/force-cancel", self._force_cancel, methods=["POST"]),
            Route(repo + "/actions/jobs/{job:int}/logs", self._log),
            Route(repo + "/check-runs/{check:int}/annotations", self._annotations),
            Route(repo + "/pages", self._page),
            Route(repo + "/pages/deployments/{id}", self._pages_deployment),
            Route(repo + "/pages/builds", self._request_build, methods=["POST"]),
            Route(repo + "/pages/builds", self._list_builds),
            Route(repo + "/deployments", self._create_deployment, methods=["POST"]),
            Route(repo + "/deployments", self._list_deployments),
            Route(repo + "/deployments/{id:int}/statuses", self._create_status, methods=["POST"]),
            Route(repo + "/deployments/{id:int}/statuses", self._list_statuses),
            Route(repo + "/installation", self._installation),
            Route("/app/installations/{id:int}/access_tokens", self._make_token, methods=["POST"]),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Storage, which is another host without a description; the rest is checked."""
        if not scope["path"].startswith("/storage/"):
            return await super().__call__(scope, receive, send)
        self.leaked += [name.decode() for name, _ in scope["headers"] if name in {b"authorization", b"cookie"}]
        text = self.logs[scope["path"].removeprefix("/storage/")]
        return await PlainTextResponse(text.encode())(scope, receive, send)

    def run_of(self, deployment_id: str) -> Run:
        return next(run for run in self.runs.values() if run.inputs["deployment_id"] == deployment_id)

    def run_again(self, run: Run) -> None:
        """As a person would in GitHub: the same id, another attempt."""
        run.attempt, run.phase, run.cancelled = run.attempt + 1, 0, False

    def states(self) -> list[list[str]]:
        """Of the statuses of each GitHub Deployment, in their order."""
        return [[status["state"] for status in statuses] for statuses in self.statuses.values()]

    # The repository

    async def _repository(self, request: Request) -> Response:
        return self._answer_read(request, self.judge.example("full-repository", default_branch="main"))

    async def _commit(self, request: Request) -> Response:
        ref = request.path_params["ref"]
        sha = self.heads.get(ref) or next((sha for sha in self.commits if sha.startswith(ref)), None)
        if sha is None:
            return _refused(422, f"No commit found for SHA: {ref}")
        by = {"name": "Mona", "email": "m@example.org"}
        text = {**self.judge.example("commit")["commit"], "message": self.commits[sha], "author": by}
        return self._answer_read(request, self.judge.example("commit", sha=sha, commit=text))

    # Actions

    async def _dispatch(self, request: Request) -> Response:
        asked = json.loads(await request.body())
        inputs = asked.get("inputs", {})
        if request.path_params["workflow"] != WORKFLOW:
            return _refused(404, "Not Found")
        if asked["ref"] not in self.heads:
            return _refused(422, f"No ref found for: {asked['ref']}")
        if set(inputs) - INPUTS:
            return _refused(422, f"Unexpected inputs provided: {sorted(set(inputs) - INPUTS)}")
        if self.dispatch_answers == 422 and "return_run_details" in asked:
            return _refused(422, 'Invalid request. "return_run_details" is not a permitted key.')
        number = 1000 + len(self.runs)
        title = f"Headway {inputs['deployment_id']}" if self.names_runs else "Deploy"
        self.runs[number] = Run(number, asked["ref"], self.heads[asked["ref"]], title, inputs, status=self.run_word)
        self.creates[inputs["deployment_id"]] += 1
        if self.dispatch_answers != 200 or not asked.get("return_run_details"):
            return Response(status_code=204)
        page = f"https://github.com/{OWNER}/{REPO}/actions/runs/{number}"
        return JSONResponse({"workflow_run_id": number, "run_url": page, "html_url": page})

    async def _list_runs(self, request: Request) -> Response:
        if request.path_params["workflow"] != WORKFLOW:
            return _refused(404, "Not Found")
        shown = [run for run in self.runs.values() if time.time() >= run.created + self.list_lag]
        shown.sort(key=lambda run: -run.id)
        size, page = int(request.query_params["per_page"]), int(request.query_params["page"])
        part = [self._run(run) for run in shown[size * (page - 1) : size * page]]
        return self._answer_read(request, {"total_count": len(shown), "workflow_runs": part})

    async def _read_run(self, request: Request) -> Response:
        run = self.runs.get(request.path_params["run"])
        if run is None:
            return _refused(404, "Not Found")
        answer = self._run(run)
        run.phase = min(run.phase + 1, run.last_phase)
        return self._answer_read(request, answer)

    def _run(self, run: Run) -> dict[str, Any]:
        status, conclusion = run.words
        return self.judge.example(
            "workflow-run",
            id=run.id,
            run_number=run.id,
            run_attempt=run.attempt,
            status=status,
            conclusion=conclusion,
            event="workflow_dispatch",
            head_branch=run.branch,
            head_sha=run.sha,
            display_title=run.title,
            created_at=moment(run.created),
            run_started_at=moment(run.created),
            updated_at=moment(run.created + 30),
            html_url=f"https://github.com/{OWNER}/{REPO}/actions/runs/{run.id}",
            head_commit={
                "id": run.sha,
                "tree_id": run.sha,
                "message": self.commits.get(run.sha, ""),
                "timestamp": moment(run.created),
                "author": {"name": "Mona", "email": "m@example.org"},
                "committer": None,
            },
        )

    async def _jobs(self, request: Request) -> Response:
        run = self.runs[request.path_params["run"]]
        jobs = self._jobs_of(run)
        return self._answer_read(request, {"total_count": len(jobs), "jobs": jobs})

    def _jobs_of(self, run: Run) -> list[dict[str, Any]]:
        """First `build`, then `deploy`, as a run that has been read so often would have them."""
        phase = LAST_PHASE if run.ended and run.branch != "broken" else max(0, run.phase - 1)
        if run.cancelled:
            return [self._job(run, "build", 0, "cancelled", steps=["Checkout", "Build"], ended=1)]
        if phase == 0 and not run.ended:
            return [self._job(run, "build", 0, None, steps=[], ended=0)]
        if run.branch == "broken" and run.ended:
            return [
                self._job(run, "build", 0, "failure", steps=["Checkout", "Build"], ended=2),
                self._job(run, "deploy", 1, "skipped", steps=[], ended=0),
            ]
        if phase == 1:
            return [self._job(run, "build", 0, None, steps=["Checkout", "Build"], ended=1)]
        done = self._job(run, "build", 0, "success", steps=["Checkout", "Build", "Upload"], ended=3)
        if phase == 2:
            return [done, self._job(run, "deploy", 1, None, steps=["Deploy"], ended=0)]
        return [done, self._job(run, "deploy", 1, "success", steps=["Deploy"], ended=1)]

    def _job(
        self, run: Run, name: str, number: int, conclusion: str | None, *, steps: list[str], ended: int
    ) -> dict[str, Any]:
        """A job with so many of its steps ended. A step takes two seconds, each job begins after the one before."""
        begun = run.created + 10 * number
        job_id = run.id * 100 + run.attempt * 10 + number
        return self.judge.example(
            "job",
            id=job_id,
            run_id=run.id,
            run_attempt=run.attempt,
            name=name,
            status="completed" if conclusion else "in_progress" if steps else "queued",
            conclusion=conclusion,
            started_at=moment(begun),
            completed_at=moment(begun + 8) if conclusion else None,
            html_url=f"https://github.com/{OWNER}/{REPO}/actions/runs/{run.id}/job/{job_id}",
            check_run_url=f"{self.url}/repos/{OWNER}/{REPO}/check-runs/{job_id}",
            steps=[_step(begun, n, step, ended, conclusion) for n, step in enumerate(steps, 1)],
        )

    async def _artifacts(self, request: Request) -> Response:
        run = self.runs[request.path_params["run"]]
        artifact = self.judge.example(
            "artifact", id=7, name="github-pages", size_in_bytes=4096, digest=f"sha256:{run.sha}", expired=False
        )
        kept = [artifact] if run.words[1] == "success" else []
        return self._answer_read(request, {"total_count": len(kept), "artifacts": kept})

    async def _cancel(self, request: Request) -> Response:
        return self._ended(self.runs[request.path_params["run"]], force=False)

    async def _force_cancel(self, request: Request) -> Response:
        return self._ended(self.runs[request.path_params["run"]], force=True)

    def _ended(self, run: Run, *, force: bool) -> Response:
        if run.ended:
            return _refused(409, "Cannot cancel a workflow run that is completed.")
        run.cancelled = force or not self.deaf_to_cancel
        return JSONResponse({}, 202)

    async def _log(self, request: Request) -> Response:
        if self.logs_missing:
            self.logs_missing -= 1
            return _refused(404, "Not Found")
        run, number = self.runs[request.path_params["job"] // 100], request.path_params["job"] % 10
        name = "deploy" if number else "broken" if run.branch == "broken" else "build"
        link = self.url.replace("127.0.0.1", "localhost") + f"/storage/{name}"
        return Response(status_code=302, headers={"location": self.log_link(link)})

    async def _annotations(self, request: Request) -> Response:
        annotation = self.judge.example("check-annotation", annotation_level="warning", message="Node 16 is old")
        return self._answer_read(request, [annotation])

    # Pages

    async def _page(self, request: Request) -> Response:
        if self.page is None:
            return _refused(404, "Not Found")
        return self._answer_read(request, self.judge.example("page", **self.page))

    async def _pages_deployment(self, request: Request) -> Response:
        words = self.pages_words.setdefault(request.path_params["id"], ["deployment_in_progress", "succeed"])
        word = words.pop(0) if len(words) > 1 else words[0]
        return _refused(404, "Not Found") if word is None else self._answer_read(request, {"status": word})

    async def _request_build(self, request: Request) -> Response:
        assert self.page is not None
        commit = self.heads[self.page["source"]["branch"]]
        self.builds.append(PageBuild(1 + len(self.builds), commit, words=list(self.build_words)))
        self.creates[commit] += 1
        return JSONResponse({"url": f"{self.url}/pages/builds/latest", "status": "queued"}, 201)

    async def _list_builds(self, request: Request) -> Response:
        listed = []
        for build in reversed(self.builds):
            word = build.words.pop(0) if len(build.words) > 1 else build.words[0]
            listed.append(
                self.judge.example(
                    "page-build",
                    url=f"{self.url}/pages/builds/{build.id}",
                    status=word,
                    commit=build.commit,
                    error={"message": "Liquid syntax error" if word == "errored" else None},
                    duration=2104,
                    created_at=moment(build.created),
                    updated_at=moment(build.created + 2),
                )
            )
        return self._answer_read(request, listed)

    # Deployments

    async def _create_deployment(self, request: Request) -> Response:
        asked = json.loads(await request.body())
        deployment = self.judge.example("deployment", **{**asked, "id": 1 + len(self.deployments), "sha": asked["ref"]})
        del deployment["auto_merge"], deployment["required_contexts"]
        self.deployments.append(deployment)
        self.statuses[deployment["id"]] = []
        return JSONResponse(deployment, 201)

    async def _list_deployments(self, request: Request) -> Response:
        wanted = {name: request.query_params[name] for name in ("sha", "environment")}
        found = [each for each in self.deployments if all(each[name] == value for name, value in wanted.items())]
        return self._answer_read(request, found[::-1])

    async def _create_status(self, request: Request) -> Response:
        status = self.judge.example("deployment-status", **json.loads(await request.body()))
        self.statuses[request.path_params["id"]].append(status)
        return JSONResponse(status, 201)

    async def _list_statuses(self, request: Request) -> Response:
        return self._answer_read(request, self.statuses[request.path_params["id"]][::-1])

    # The app

    async def _installation(self, request: Request) -> Response:
        if self._app_of(request) is None:
            return _refused(401, "A JSON web token could not be decoded")
        return self._answer_read(
            request, self.judge.example("installation", id=42, account=self.judge.example("simple-user"))
        )

    async def _make_token(self, request: Request) -> Response:
        if self._app_of(request) is None:
            return _refused(401, "A JSON web token could not be decoded")
        self.made_tokens += 1
        token = f"ghs_{self.made_tokens}_" + "x" * (40 * self.made_tokens)
        self.tokens = {*(self.tokens or set()), token}
        expires = datetime.now(UTC) + timedelta(seconds=self.token_seconds)
        return JSONResponse({"token": token, "expires_at": expires.isoformat().replace("+00:00", "Z")}, 201)

    def _app_of(self, request: Request) -> str | None:
        try:
            claims = jwt.decode(_bearer(request), self.app_key, algorithms=["RS256"], options={"verify_aud": False})
        except jwt.InvalidTokenError:
            return None
        return str(claims["iss"]) if claims["exp"] - claims["iat"] <= 600 else None

    def _answer_read(self, request: Request, body: Any) -> Response:
        answer = JSONResponse(body)
        answer.headers["etag"] = f'W/"{hashlib.sha256(bytes(answer.body)).hexdigest()}"'
        if request.headers.get("if-none-match") == answer.headers["etag"]:
            return Response(status_code=304)
        return answer

    async def _answer(self, exchange: Any, fault: Any) -> None:
        """A token that is not taken is refused before anything else."""
        request = exchange.request
        about_app = re.search(r"/installation$|/access_tokens$", request.url.path)
        if self.tokens is not None and not about_app and _bearer(request) not in self.tokens:
            await exchange.send_whole(_refused(401, "Bad credentials"))
        else:
            await super()._answer(exchange, fault or self._chaos())

    def _chaos(self) -> Fault | None:
        if self.chaos is None or self.chaos.random() > 0.3:
            return None
        self.chaos_happened += 1
        kinds: list[Literal["status", "reset", "lost"]] = ["status", "reset", "lost"]
        return Fault(self.chaos.choice(kinds), status=self.chaos.choice([500, 502, 503]))


def _bearer(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _refused(status: int, message: str) -> Response:
    return JSONResponse({"message": message, "documentation_url": "https://docs.github.com/rest"}, status)


def _step(begun: float, number: int, name: str, ended: int, conclusion: str | None) -> dict[str, Any]:
    done, bad = number <= ended, conclusion in {"failure", "cancelled"}
    over = done or conclusion is not None
    last = number == max(ended, 1)
    return {
        "name": name,
        "number": number,
        "status": "completed" if over else "in_progress" if number == ended + 1 else "queued",
        "conclusion": (conclusion if bad and last else "success" if done else "skipped") if over else None,
        "started_at": moment(begun + 2 * number - 2) if over or number == ended + 1 else None,
        "completed_at": moment(begun + 2 * number) if over else None,
    }


def log(*lines: str) -> str:
    """As GitHub writes it: a byte order mark, and a moment before each line."""
    return "\ufeff" + "".join(f"2026-11-20T10:00:{n % 60:02d}.1234567Z {line}\r\n" for n, line in enumerate(lines))


LOG = log("##[group]Run npm ci", "added 3 packages", "##[endgroup]", "", "##[warning]old", "\x1b[32mdone\x1b[0m")
FAILED_LOG = log(
    "compiling", "src/a.ts(1,1): error TS1005", "##[error]Process completed with exit code 2.", "cleaning up"
)
