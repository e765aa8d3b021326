"""Commands of `headway` called in this process, as a process of their own, and what they ended with."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import cli

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    code: int
    output: str
    errors: str

    @property
    def document(self) -> Any:
        return json.loads(self.output)


Headway = Callable[..., Coroutine[Any, Any, Ended]]


def called(*arguments: str, **environment: str) -> Ended:
    """All that the script does, but for starting a process, which takes longer than what most commands do."""
    with (
        patch.dict(os.environ, environment),
        redirect_stdout(StringIO()) as output,
        redirect_stderr(StringIO()) as errors,
        pytest.raises(SystemExit) as exit_,
    ):
        cli.main(arguments)
    return Ended(int(exit_.value.code or 0), output.getvalue(), errors.getvalue())


async def run(*arguments: str, directory: Path, **environment: str) -> Ended:
    return await end(await started(*arguments, directory=directory, **environment))


async def started(*arguments: str, directory: Path, **environment: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    known = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", *arguments),
        cwd=directory,
        env={**known, "PYTHONPATH": str(ROOT), **environment},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    )


async def end(process: asyncio.subprocess.Process, said: bytes | None = None) -> Ended:
    output, errors = await process.communicate(said)
    return Ended(process.returncode or 0, output.decode(), errors.decode())
