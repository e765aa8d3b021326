"""docker-compose.yml as tests read it, and the running of its scripts."""

import asyncio
import os
import re
import runpy
from collections.abc import Callable
from typing import Any

import yaml

from tests.drawings import ROOT

BIN = "/opt/headway/bin/"
REFERENCE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]

new_env: Callable[[], dict[str, str]] = runpy.run_path(str(ROOT / "ops" / "new_env.py"))["new_env"]


def environment_of(service: str, secrets: dict[str, str]) -> dict[str, str]:
    """Filled in as Compose does: `${NAME:?…}` is demanded, `${NAME:-…}` has a default."""
    said: dict[str, str] = SERVICES[service]["environment"]
    return {name: _filled(value, secrets) for name, value in said.items()}


def _filled(text: str, values: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name, kind, default = found.groups()
        return str(default) if kind == "-" and name not in values else values[name]

    return REFERENCE.sub(value, text)


def url_of_health(service: str) -> str:
    found = re.search(r"http://[\w.:/]+", SERVICES[service]["healthcheck"]["test"][-1])
    assert found is not None
    return found[0]


async def output_of(*argv: str, said: str = "", **environment: str) -> str:
    """What a command says, that has to end well."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *argv, env={**os.environ, **environment}, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate(said.encode())
    assert process.returncode == 0, output.decode()
    return output.decode()
