"""The production shape at work: the commands and scripts of docker-compose.yml, outside of containers."""

import asyncio
import os
import re
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from domain.errors import ErrorCode
from providers.internal.edge import Edge
from providers.internal.hosts import Hosts
from store.server import LocalPostgres, database_url
from tests.compose import BIN, SERVICES, environment_of, new_env, output_of, url_of_health
from tests.drawings import ROOT
from tests.servers import TEMPORAL, eventually, free_port, running
from workflows import search


@dataclass(frozen=True)
class Surroundings:
    """What containers would give: addresses and a disk."""

    directory: Path
    database: str
    temporal: str
    namespace: str

    def of(self, service: str, secrets: dict[str, str]) -> dict[str, str]:
        own = {
            "HEADWAY_DATABASE_URL": self.database,
            "HEADWAY_TEMPORAL_ADDRESS": self.temporal,
            "HEADWAY_TEMPORAL_NAMESPACE": self.namespace,
            "HEADWAY_DATA_DIR": str(self.directory / service),
            "HEADWAY_WORKER_METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
            "HEADWAY_EDGE_ADMIN_URL": f"unix/{self.directory}/no-edge.sock",
        }
        said = environment_of(service, secrets)
        return {"PYTHONPATH": str(ROOT), **said, **{name: value for name, value in own.items() if name in said}}


@pytest.fixture
async def surroundings(tmp_path: Path, database_url: str, temporal: str) -> Surroundings:
    namespace = f"compose-{free_port()}"
    await _make_namespace(temporal, namespace)
    return Surroundings(tmp_path, database_url, temporal, namespace)


def outside(service: str) -> list[str]:
    """The service's command with this machine's programs."""
    programs = {f"{BIN}python": sys.executable, f"{BIN}keep": str(ROOT / "ops" / "keep.sh")}
    words = [programs.get(word, word) for word in SERVICES[service]["command"]]
    return [sys.executable, "-m", "uvicorn", *words[1:]] if words[0] == f"{BIN}uvicorn" else words


async def _answers(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
        try:
            return (await http.get(url)).is_success
        except httpx.TransportError:
            return False


@asynccontextmanager
async def production(around: Surroundings, secrets: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """Worker, builder and API, each as its container would run; gives a client of the API."""
    port = free_port()
    async with AsyncExitStack() as parts:
        for service in ("worker", "builder"):
            environment = around.of(service, secrets)
            page = f"http://{environment['HEADWAY_WORKER_METRICS_ADDRESS']}{urlsplit(url_of_health(service)).path}"
            log = around.directory / f"{service}.log"
            ready = partial(_answers, page)
            await parts.enter_async_context(running(*outside(service), ready=ready, log=log, **environment))
        words = [word for word in outside("api") if not word.startswith(("--port=", "--host="))]
        ready = partial(_answers, f"http://127.0.0.1:{port}{urlsplit(url_of_health('api')).path}")
        log = around.directory / "api.log"
        environment = around.of("api", secrets)
        await parts.enter_async_context(running(*words, f"--port={port}", ready=ready, log=log, **environment))
        await eventually(partial(_answers, f"http://127.0.0.1:{port}/readyz"))
        headers = {"Authorization": f"Bearer {secrets['HEADWAY_FIRST_TOKEN']}"}
        http = httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}", headers=headers)
        yield await parts.enter_async_context(http)


async def test_the_services_get_ready_and_bring_a_deployment_to_its_end(surroundings: Surroundings) -> None:
    """One that the builder refuses: its repository is at a private address, which production does not fetch from."""
    async with production(surroundings, new_env()) as http:
        site = {"id": "site", "provider": "internal", "repositoryUrl": "https://127.0.0.1/site.git"}
        (await http.post("/v1/projects", json=site)).raise_for_status()
        accepted = await http.post("/v1/deployments", json={"projectId": "site", "sourceRef": "main"})
        where = accepted.raise_for_status().headers["location"]

        async def ended() -> bool:
            return (await http.get(where)).json()["finishedAt"] is not None

        await eventually(ended)
        deployment = (await http.get(where)).json()
        said = (await http.get(f"{where}/logs", headers={"Accept": "text/plain"})).text
    assert (deployment["status"], deployment["error"]["code"]) == ("failed", ErrorCode.INVALID_REQUEST)
    assert "not a public address" in said


async def test_the_edge_starts_from_its_file_and_obeys_over_its_socket(tmp_path: Path) -> None:
    port, socket = free_port(), tmp_path / "admin.sock"
    text = (ROOT / "ops" / "edge.json").read_text()
    config = tmp_path / "edge.json"
    text = text.replace(":8081", f"127.0.0.1:{port}").replace("/run/headway-edge/admin.sock", str(socket))
    releases = tmp_path / "releases"
    config.write_text(text.replace(f"{SERVICES['builder']['environment']['HEADWAY_DATA_DIR']}/releases", str(releases)))
    home = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    program, *words = SERVICES["edge"]["command"]

    async def ready() -> bool:
        return socket.exists()

    argv = [str(Path(sys.executable).with_name(program)), *words[:-1], str(config)]
    async with running(*argv, ready=ready, log=tmp_path / "log", **home):
        edge = Edge(f"unix/{socket}", f"http://127.0.0.1:{port}")
        try:
            assert not await edge.ensure(releases)
            (releases / "one" / "files").mkdir(parents=True)
            Hosts(releases).point("a.b.localhost", "one")
            await edge.check("a.b.localhost", "one")
        finally:
            await edge.close()
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600


async def test_a_worker_that_dies_is_started_again_within_its_container(tmp_path: Path) -> None:
    """A container goes with its first process, and builds would go with it."""
    pids = tmp_path / "pids"

    async def started(times: int) -> bool:
        return pids.exists() and len(pids.read_text().split()) == times

    kept = [str(ROOT / "ops" / "keep.sh"), "sh", "-c", f"echo $$ >> {pids}; exec sleep 1000"]
    async with running(*kept, ready=partial(started, 1), log=tmp_path / "log") as keeper:
        os.kill(int(pids.read_text()), 9)
        await eventually(partial(started, 2))
        keeper.terminate()
        assert await asyncio.wait_for(keeper.wait(), 10) == 0
    assert not Path(f"/proc/{pids.read_text().split()[-1]}").exists()


def test_the_keeper_can_be_executed() -> None:
    assert (ROOT / "ops" / "keep.sh").stat().st_mode & stat.S_IXUSR


async def test_the_namespace_is_made_with_its_search_attributes_and_making_it_again_does_no_harm(temporal: str) -> None:
    namespace = f"made-{free_port()}"
    for _ in range(2):
        await _make_namespace(temporal, namespace)
    asked = ["operator", "search-attribute", "list", "--namespace", namespace, "--address", temporal]
    made = await output_of(TEMPORAL, *asked)
    assert {attribute.name for attribute in search.ALL} <= set(made.split())
    described = await output_of(
        TEMPORAL, "operator", "namespace", "describe", "--namespace", namespace, "--address", temporal
    )
    assert "720h" in described  # 30 days


async def test_each_role_of_the_database_has_its_own_and_no_other(postgres: LocalPostgres) -> None:
    """Under other names: the server of the tests has a `headway` already."""
    text = re.sub(r"\b(headway|temporal)(?=[_ ;,])", r"composed_\1", (ROOT / "ops" / "postgres-init.sql").read_text())
    secrets = new_env()
    psql = [
        str(postgres.programs / "psql"),
        "--no-psqlrc",
        "--set=ON_ERROR_STOP=1",
        "--dbname",
        postgres.url("postgres"),
    ]
    await output_of(*psql, "--command=select 1", "--file=-", said=text, **secrets)
    password = secrets["HEADWAY_DATABASE_PASSWORD"]

    def address(database: str) -> str:
        return database_url(password, postgres.port, database).replace("//headway:", "//composed_headway:")

    async with await psycopg.AsyncConnection.connect(address("composed_headway")) as connection:
        await connection.execute("create table mine (id int)")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        await psycopg.AsyncConnection.connect(address("composed_temporal"))


async def _make_namespace(address: str, namespace: str) -> None:
    path = f"{Path(TEMPORAL).parent}:{os.environ['PATH']}"
    script = str(ROOT / "ops" / "temporal-namespace.sh")
    await output_of("sh", script, TEMPORAL_ADDRESS=address, TEMPORAL_NAMESPACE=namespace, PATH=path)
