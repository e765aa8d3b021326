"""`headway up`, whose API and worker reach the other parts through doors: `python -m tests.chaos.detoured up …`.

Rule: it is the command itself and its own table of parts. Only addresses are replaced, by those in `detours.json`
beside the data directory.
"""

import ctypes
import json
import signal
from dataclasses import replace
from urllib.parse import urlsplit

import cli
import stack

_PR_SET_PDEATHSIG = 1


class Detoured(stack.Stack):
    def _parts(self) -> list[stack.Part]:
        return [replace(part, env={**part.env, **self._detours.get(part.name, {})}) for part in super()._parts()]

    async def _write_edge_config(self) -> None:
        """Caddy's admin endpoint answers to its own address alone; here to that of its door as well."""
        await super()._write_edge_config()
        path = self.data_dir / "edge.json"
        config = json.loads(path.read_text())
        door = urlsplit(self._detours["worker"]["HEADWAY_EDGE_ADMIN_URL"]).netloc
        config["admin"]["origins"] = [config["admin"]["listen"], door]
        path.write_text(json.dumps(config))

    @property
    def _detours(self) -> dict[str, dict[str, str]]:
        detours: dict[str, dict[str, str]] = json.loads((self.data_dir.parent / "detours.json").read_text())
        return detours


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # it ends with the harness
    stack.Stack = Detoured  # type: ignore[misc]  # this process is nothing else
    cli.main()
