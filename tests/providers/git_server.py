"""A git server on loopback: `git http-backend` as /smart/NAME, plain files as /dumb/NAME, redirects as /moved/NAME."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


class Repository:
    """A repository that is written to by the test."""

    def __init__(self, path: Path, base_url: str) -> None:
        self.path = path
        self.url = f"{base_url}/smart/{path.name}"
        self.dumb_url = f"{base_url}/dumb/{path.name}/.git"
        self.moved_url = f"{base_url}/moved/{path.name}"

    def git(self, *arguments: str) -> str:
        argv = ["git", "-C", str(self.path), *arguments]
        ran = subprocess.run(argv, check=True, capture_output=True, text=True, env={**os.environ, **_IDENTITY})
        return ran.stdout.strip()

    def commit(self, files: dict[str, str], message: str = "a change") -> str:
        for name, text in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.git("update-server-info")
        return self.git("rev-parse", "HEAD")


class GitServer:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[tuple[str, str | None]] = []
        self.away = False
        served = type("Served", (_Requests,), {"server_of": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), served)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def repository(self, name: str, files: dict[str, str]) -> Repository:
        path = self.root / name
        path.mkdir(parents=True)
        made = Repository(path, self.url)
        made.git("init", "--quiet", "--initial-branch", "main")
        made.git("config", "uploadpack.allowAnySHA1InWant", "true")
        made.commit(files, "first")
        return made

    @contextlib.contextmanager
    def running(self) -> Iterator["GitServer"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Requests(BaseHTTPRequestHandler):
    server_of: GitServer

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name in the standard library
        """Says nothing."""

    def _answer(self) -> None:
        self.server_of.requests.append((self.path, self.headers.get("Authorization")))
        kind, _, rest = self.path.lstrip("/").partition("/")
        if self.server_of.away:
            self.send_response(503)
            self.end_headers()
        elif kind == "moved":
            self.send_response(302)
            self.send_header("Location", f"{self.server_of.url}/smart/{rest}")
            self.end_headers()
        elif kind == "dumb":
            self._answer_with_file(rest.partition("?")[0])
        else:
            self._answer_by_git(rest)

    def _answer_with_file(self, name: str) -> None:
        path = self.server_of.root / name
        self.send_response(200 if path.is_file() else 404)
        self.end_headers()
        if path.is_file():
            self.wfile.write(path.read_bytes())

    def _answer_by_git(self, rest: str) -> None:
        path, _, query = rest.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.server_of.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{path}",
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        said = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, check=False, env=environment
        ).stdout
        head, _, content = said.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        with contextlib.suppress(ConnectionError):  # who asked has ended meanwhile
            self.end_headers()
            self.wfile.write(content)
