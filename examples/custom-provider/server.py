"""A small deploy server, for Headway's provider `custom`. One file, the standard library and git.

    DEPLOY_TOKEN=… python server.py --repository https://git.example.org/shop.git --build "make site" --output site

It builds a branch, tag or commit of one repository: fetches it, runs the build command in it, keeps the output as a
release. Publishing points a site at a release, so an earlier one is live again without a build.
`provider-settings.json` describes it to Headway; `README.md` says how the two are put together.

Rules:
1. A key makes one deployment, however often it is asked for.
2. What is told was written to disk before. A restart forgets nothing; builds that it broke off have failed.
3. The newest status is asked for. Webhooks only say when to ask; they are signed by Standard Webhooks.
"""

import argparse
import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import os
import queue
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 500
"""Lines of a log per answer, at most."""
MAX_BODY = 1024 * 1024
FINAL = {"succeeded", "failed", "canceled"}
RETRY_SECONDS = (0, 1, 5, 30, 120)
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,254}")


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Deployments:
    """`DATA/deployments/ID.json` says how each stands, `ID.log` beside it what its build said."""

    def __init__(self, data: Path, options: argparse.Namespace) -> None:
        self.options = options
        self.public = data / "public"
        self._records = data / "deployments"
        self._work = data / "work"
        for directory in (self.public / "releases", self.public / "sites", self._records, self._work):
            directory.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._events: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self._all = {path.stem: json.loads(path.read_text()) for path in self._records.glob("*.json")}
        self._by_key = {record["key"]: record for record in self._all.values()}
        for record in self._all.values():
            if record["status"] not in FINAL:
                self._becomes(record, "failed", reason="the server was restarted while it was built")
        threading.Thread(target=self._send_webhooks, daemon=True).start()

    def create(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        wanted = {name: body.get(name) for name in ("key", "project", "environment", "ref", "commit", "variables")}
        _check(wanted)
        with self._lock:
            if wanted["key"] in self._by_key:
                return 200, self._by_key[wanted["key"]]
            record = {**wanted, "id": secrets.token_hex(8), "status": "queued", "reason": None, "live": False}
            record |= {"site": f"{wanted['project']}-{wanted['environment']}", "url": None, "preview": None}
            self._all[record["id"]] = self._by_key[record["key"]] = record
            self._save(record)
        threading.Thread(target=self._build, args=[record], daemon=True).start()
        return 201, record

    def find(self, key: str) -> list[dict[str, Any]]:
        return [self._by_key[key]] if key in self._by_key else []

    def get(self, identity: str) -> dict[str, Any]:
        if identity not in self._all:
            raise Refused(404, "there is no such deployment")
        return self._all[identity]

    def log(self, identity: str, after: int) -> dict[str, Any]:
        self.get(identity)
        with contextlib.suppress(FileNotFoundError), self._log_of(identity).open() as file:
            whole = (line for line in file if line.endswith("\n"))
            lines = [json.loads(line) for line in itertools.islice(whole, after, after + PAGE)]
            return {"lines": lines, "next": after + len(lines)}
        return {"lines": [], "next": after}

    def cancel(self, identity: str) -> dict[str, Any]:
        record = self.get(identity)
        if record["status"] in FINAL:
            raise Refused(409, f"it has ended: {record['status']}")
        self._becomes(record, "canceled", reason="canceled on request")
        with self._lock:
            running = self._running.get(identity)
        if running is not None:
            _kill(running)
        return record

    def publish(self, identity: str) -> dict[str, Any]:
        """Points the site at the release, in one step."""
        record = self.get(identity)
        if record["status"] != "succeeded":
            raise Refused(409, f"it cannot be published: {record['status']}")
        with self._lock:
            site = self.public / "sites" / record["site"]
            new = site.with_name(f".{record['id']}")
            new.unlink(missing_ok=True)
            new.symlink_to(Path("../releases") / record["id"])
            new.replace(site)
            for other in self._all.values():
                live = other is record
                if other["site"] == record["site"] and other["live"] is not live:
                    other |= {"live": live, "url": f"{self.options.url}/sites/{record['site']}/" if live else None}
                    self._save(other)
        return record

    def stop(self) -> None:
        """Ends what runs, so that nothing is left behind."""
        with self._lock:
            for process in self._running.values():
                _kill(process)

    def _build(self, record: dict[str, Any]) -> None:
        work = self._work / record["id"]
        try:
            self._becomes(record, "building")
            self._fetch(record, work)
            self._run(record, ["sh", "-c", self.options.build], work, record["variables"])
            shutil.copytree(self._output(work), self.public / "releases" / record["id"], ignore=_what_is_not_served)
            self._becomes(record, "succeeded", preview=f"{self.options.url}/releases/{record['id']}/")
        except Refused as error:
            self._becomes(record, "failed", reason=str(error))
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _fetch(self, record: dict[str, Any], work: Path) -> None:
        work.mkdir()
        wanted = record["commit"] or record["ref"]
        self._run(record, ["git", "init", "--quiet"], work)
        self._run(record, ["git", "fetch", "--quiet", "--depth", "1", "--", self.options.repository, wanted], work)
        self._run(record, ["git", "checkout", "--quiet", "FETCH_HEAD"], work)
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=work, capture_output=True, text=True, check=False)
        with self._lock:
            record["commit"] = commit.stdout.strip() or None
            self._save(record)

    def _output(self, work: Path) -> Path:
        output = (work / self.options.output).resolve()
        if not output.is_dir() or not output.is_relative_to(work.resolve()):
            raise Refused(422, f"the build has left no directory {self.options.output}")
        return output

    def _run(
        self, record: dict[str, Any], argv: list[str], work: Path, variables: dict[str, str] | None = None
    ) -> None:
        """Its output is the log. Raises Refused when it fails, or when nobody wants it any more."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment = {**kept, "GIT_TERMINAL_PROMPT": "0", **(variables or {})}
        with self._lock:
            if record["status"] in FINAL:
                raise Refused(409, "canceled")
            process = subprocess.Popen(
                argv,
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._running[record["id"]] = process
        with self._log_of(record["id"]).open("a", buffering=1) as log:
            for line in process.stdout or ():
                log.write(_entry(line))
        code = process.wait()
        with self._lock:
            del self._running[record["id"]]
        if code != 0:
            raise Refused(422, f"{argv[0]} ended with {code}")

    def _becomes(self, record: dict[str, Any], status: str, **more: Any) -> None:
        """What has ended stays as it is."""
        with self._lock:
            if record["status"] in FINAL:
                return
            record |= {"status": status, **more}
            self._save(record)
        self._events.put((f"deployment.{status}", {"id": record["id"], "key": record["key"]}))

    def _save(self, record: dict[str, Any]) -> None:
        path = self._records / f"{record['id']}.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps(record))
        new.replace(path)

    def _log_of(self, identity: str) -> Path:
        return self._records / f"{identity}.log"

    def _send_webhooks(self) -> None:
        while True:
            kind, data = self._events.get()
            if self.options.webhook_url:
                _send(self.options.webhook_url, os.environ["WEBHOOK_SECRET"], kind, data)


def _check(wanted: dict[str, Any]) -> None:
    named = {"key": NAME, "project": NAME, "environment": NAME, "ref": REF}
    for name, pattern in named.items():
        if not isinstance(wanted[name], str) or not pattern.fullmatch(wanted[name]):
            raise Refused(422, f"{name} is missing, or not of the form {pattern.pattern}")
    if wanted["commit"] is not None and not re.fullmatch(r"[0-9a-f]{40,64}", str(wanted["commit"])):
        raise Refused(422, "commit is no commit id")
    variables = wanted["variables"] = wanted["variables"] or {}
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise Refused(422, "variables is no map of texts")


def _entry(line: str) -> str:
    return json.dumps({"at": datetime.now(UTC).isoformat(), "text": line.removesuffix("\n")}) + "\n"


def _what_is_not_served(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if name == ".git" or (Path(directory) / name).is_symlink()]


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _send(url: str, secret: str, kind: str, data: dict[str, Any]) -> None:
    """https://www.standardwebhooks.com: HMAC of id, time and body, by a key that is written whsec_BASE64."""
    message = f"msg_{secrets.token_hex(12)}"
    moment = datetime.now(UTC)
    body = json.dumps({"type": kind, "timestamp": moment.isoformat(), "data": data}).encode()
    key = base64.b64decode(secret.removeprefix("whsec_"))
    for pause in RETRY_SECONDS:
        time.sleep(pause)
        seconds = str(int(time.time()))
        digest = hmac.new(key, f"{message}.{seconds}.".encode() + body, hashlib.sha256).digest()
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message,
            "webhook-timestamp": seconds,
            "webhook-signature": "v1," + base64.b64encode(digest).decode(),
        }
        request = urllib.request.Request(url, body, headers)
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10):
            return


class Requests(SimpleHTTPRequestHandler):
    """The API below /deployments; whatever else is asked for is a file of a release or of a site."""

    deployments: Deployments
    token: str
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, directory=str(self.deployments.public))

    def do_GET(self) -> None:
        path, query = self._asked()
        if path[:1] != ["deployments"]:
            super().do_GET()
        elif len(path) == 1:
            self._answer(lambda: (200, {"deployments": self.deployments.find(query.get("key", ""))}))
        elif len(path) == 2:
            self._answer(lambda: (200, self.deployments.get(path[1])))
        elif path[2:] == ["log"]:
            after = query.get("after", "0")
            self._answer(lambda: (200, self.deployments.log(path[1], int(after) if after.isdecimal() else 0)))
        else:
            self._answer(_nothing)

    def do_POST(self) -> None:
        path, _ = self._asked()
        length = self.headers.get("Content-Length", "0")
        self.close_connection = not (length.isdecimal() and int(length) <= MAX_BODY)
        body = b"" if self.close_connection else self.rfile.read(int(length))
        if path == ["deployments"]:
            self._answer(lambda: self.deployments.create(_object(body)))
        elif len(path) == 3 and path[0] == "deployments" and path[2] == "cancel":
            self._answer(lambda: (202, self.deployments.cancel(path[1])))
        elif len(path) == 3 and path[0] == "deployments" and path[2] == "publish":
            self._answer(lambda: (200, self.deployments.publish(path[1])))
        else:
            self._answer(_nothing)

    def list_directory(self, path: Any) -> None:  # noqa: ARG002 - the standard library's signature
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as above
        """Says nothing."""

    def _asked(self) -> tuple[list[str], dict[str, str]]:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return [part for part in parts.path.split("/") if part], query

    def _check_token(self) -> None:
        sent = self.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(sent, f"Bearer {self.token}".encode()):
            raise Refused(401, "the token is missing or wrong")

    def _answer(self, act: Any) -> None:
        try:
            self._check_token()
            status, document = act()
        except Refused as error:
            status, document = error.status, {"error": {"code": f"refused-{error.status}", "message": str(error)}}
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _nothing() -> tuple[int, dict[str, Any]]:
    raise Refused(404, "there is nothing under this address")


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Refused(400, "the body is no JSON object")
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description="a small deploy server; the token is in DEPLOY_TOKEN")
    parser.add_argument("--repository", required=True, help="what git fetches from")
    parser.add_argument("--build", required=True, help="the command, run by sh in the fetched files")
    parser.add_argument("--output", required=True, help="the directory that it leaves")
    parser.add_argument("--data", type=Path, default=Path("deploy-data"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--url", help="where this server is reached; default: http://HOST:PORT")
    parser.add_argument("--webhook-url", help="who is told of changes, signed with WEBHOOK_SECRET (whsec_…)")
    options = parser.parse_args()
    options.url = options.url or f"http://{options.host}:{options.port}"
    if not os.environ.get("DEPLOY_TOKEN") or (options.webhook_url and not os.environ.get("WEBHOOK_SECRET")):
        parser.error("DEPLOY_TOKEN is needed in the environment, and WEBHOOK_SECRET with --webhook-url")
    Requests.token = os.environ["DEPLOY_TOKEN"]
    Requests.deployments = Deployments(options.data.resolve(), options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        ThreadingHTTPServer((options.host, options.port), Requests).serve_forever()
    finally:
        Requests.deployments.stop()


if __name__ == "__main__":
    main()
