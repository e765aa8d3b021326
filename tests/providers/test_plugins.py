"""Plug-ins: a package that offers a provider is found, and one that offers it wrongly is refused or does no harm."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from domain.errors import DeploymentError, ErrorCode
from providers.base import Build, Provider
from providers.registry import RefusedPlugin, plugin_instances, provider_classes
from tests.providers.custom_stand_in import asked_for

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "provider-plugin"

LISTED = """
import json
from providers.registry import provider_classes
print(json.dumps({name: sorted(one.capabilities) for name, one in provider_classes().items()}))
"""
BUILT_IN = ["custom", "github-pages", "internal", "vercel"]

Offer = Callable[..., None]


def python(
    target: Path, *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A Python that has what is installed in `target`, too."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    path = {"PYTHONPATH": str(target), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, *arguments]
    return subprocess.run(
        argv, cwd=cwd or target, env={**known, **path, **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offer]:
    """Makes a distribution that offers these entry points, as far as its metadata go."""
    monkeypatch.syspath_prepend(tmp_path)
    provider_classes.cache_clear()

    def make(text: str, points: dict[str, str], name: str = "acme-plugin") -> None:
        module = name.replace("-", "_")
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(text)
        metadata = tmp_path / f"{module}-2.1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n")
        lines = "".join(f"{point} = {module}:{value}\n" for point, value in points.items())
        (metadata / "entry_points.txt").write_text(f"[headway.providers]\n{lines}")

    yield make
    provider_classes.cache_clear()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed offline by what has installed the rest; a copy, since building leaves files behind."""
    directory = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, directory / "source")
    target = directory / "target"
    pip = [sys.executable, "-m", "pip", "install"]
    uv = ["uv", "pip", "install", "--python", sys.executable]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(target)]
    command = [*(pip if find_spec("pip") else uv), *options, str(directory / "source")]
    subprocess.run(command, check=True, capture_output=True)
    return target


def test_a_package_that_is_installed_is_found(installed: Path) -> None:
    listed = python(installed, "-c", LISTED)

    assert listed.returncode == 0, listed.stderr
    providers = json.loads(listed.stdout)
    assert providers["folder"] == ["cancel", "repoint"]
    assert {*BUILT_IN, "folder"} <= set(providers)
    assert list(providers) == sorted(providers)


async def test_the_suite_runs_where_nothing_of_this_repositorys_tests_is(installed: Path) -> None:
    source = installed.parent / "source"

    ran = await asyncio.to_thread(python, installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=source)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^\d\d passed", ran.stdout, re.MULTILINE), ran.stdout
    assert str(installed) in python(installed, "-c", "import headway_folder; print(headway_folder.__file__)").stdout


def test_the_suite_finds_what_is_wrong(installed: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(EXAMPLE, source)
    module = source / "headway_folder.py"
    module.write_text(module.read_text().replace("told = int(cursor or 0)", "told = 0"))

    ran = python(source, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "resumes or report_reads", cwd=source)

    assert "1 failed, 1 passed" in ran.stdout, ran.stdout
    assert "test_whoever_resumes_gets_each_line_once_from_any_cursor" in ran.stdout
    assert "AssertionError: assert [" in ran.stdout, "explained by pytest"


@pytest.mark.parametrize(
    ("text", "points", "why"),
    [
        ("from providers.internal.provider import Internal as P", {"internal": "P"}, "of that name is built in"),
        ("P = 7", {"acme": "P"}, "acme_plugin:P is no subclass of providers.base.Provider"),
        ("class P: pass", {"acme": "P"}, "is no subclass"),
        ("from providers.base import Provider as P", {"acme": "P"}, "lacks cancel_build, collect_report"),
        ("from providers.internal.provider import Internal as P", {"acme": "P"}, "has to say name = 'acme'"),
        ("P = 7", {"Acme Inc": "P"}, "lower-case letters"),
    ],
)
def test_what_is_no_provider_is_refused_at_the_start(offer: Offer, text: str, points: dict[str, str], why: str) -> None:
    offer(text, points)

    with pytest.raises(RefusedPlugin, match=r"^acme-plugin 2\.1 offers the provider '") as refused:
        provider_classes()

    assert why in str(refused.value)


def test_two_packages_with_one_name_are_refused(offer: Offer) -> None:
    offer("raise ImportError", {"acme": "P"}, "a-plugin")
    offer("raise ImportError", {"acme": "P"}, "b-plugin")

    with pytest.raises(RefusedPlugin, match=r"b-plugin 2\.1 .* a provider of that name comes from a-plugin 2\.1"):
        provider_classes()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import no_such_module", "cannot be loaded: ModuleNotFoundError"),
        ("raise RuntimeError('password')", "cannot be loaded: RuntimeError"),
        ("x = 1", "cannot be loaded: AttributeError"),
        ("import sys\nsys.exit(3)", "cannot be loaded: SystemExit"),
    ],
)
async def test_a_plugin_that_cannot_be_loaded_keeps_nobody_from_working(offer: Offer, text: str, why: str) -> None:
    offer(text, {"acme": "P"})

    classes = provider_classes()

    assert set(BUILT_IN) < set(classes)
    assert classes["acme"].capabilities == frozenset()
    with pytest.raises(DeploymentError) as refused:
        classes["acme"].check_settings({}, None)
    assert await refusal_of(plugin_instances()["acme"]) == refused.value.message
    assert f"the provider acme is not available here: the plug-in of acme-plugin 2.1 {why}" in refused.value.message
    assert "password" not in refused.value.message


async def test_a_plugin_that_cannot_be_made_is_told_like_one_that_cannot_be_loaded(offer: Offer) -> None:
    text = (
        "from providers.missing import missing\n"
        "def refuse(self): raise KeyError('ACME_TOKEN')\n"
        "P = type('P', (missing('acme', 'x'),), {'__init__': refuse})\n"
    )
    offer(text, {"acme": "P"})

    assert "the plug-in acme cannot be made: KeyError" in await refusal_of(plugin_instances()["acme"])


async def refusal_of(provider: Provider) -> str:
    """What each of its calls says."""
    request = asked_for({})
    build = Build(deployment_id="d", project_id="p", environment="e", build_id="b")
    told = set()
    for call in (
        provider.start_build(request),
        anext(provider.follow_build(request, build, "")),
        provider.cancel_build(request, build),
        provider.publish_build(request, build),
        provider.collect_report(request, build),
    ):
        with pytest.raises(DeploymentError) as refused:
            await call
        assert refused.value.code == ErrorCode.INVALID_REQUEST
        told.add(refused.value.message)
    assert len(told) == 1
    return told.pop()
