"""What is recognised from a repository, and the commands that come of it. Nothing is executed here."""

import json
from pathlib import Path
from typing import Any

import pytest

from domain.configuration import DeploymentConfiguration
from domain.errors import DeploymentError, ErrorCode
from providers.internal.plan import Plan, Toolbox, make_plan
from providers.internal.presets import PRESETS, recognise
from providers.internal.source import Source
from tests.providers.conftest import MakeInternal, MakeRepository, build, build_request


def package(*dependencies: str, **more: Any) -> str:
    return json.dumps({"devDependencies": dict.fromkeys(dependencies, "*"), **more})


RECOGNISED = {
    "astro": {"package.json": package("astro", "vite")},
    "docusaurus": {"package.json": package("@docusaurus/core", "react")},
    "eleventy": {"eleventy.config.js": ""},
    "next": {"package.json": package("next", "react")},
    "nuxt": {"package.json": package("nuxt")},
    "sveltekit": {"package.json": package("@sveltejs/kit", "vite")},
    "gatsby": {"package.json": package("gatsby")},
    "hexo": {"package.json": package("hexo")},
    "vitepress": {"package.json": package("vitepress"), "docs/.vitepress/config.js": ""},
    "vuepress": {"package.json": package("vuepress")},
    "angular": {"package.json": package("@angular/core"), "angular.json": "{}"},
    "create-react-app": {"package.json": package("react-scripts")},
    "vue-cli": {"package.json": package("@vue/cli-service")},
    "parcel": {"package.json": package("parcel")},
    "vite": {"package.json": package("vite", scripts={"build": "vite build"})},
    "hugo": {"config.toml": 'baseURL = "https://x.example"'},
    "zola": {"config.toml": 'base_url = "https://x.example"'},
    "mdbook": {"book.toml": ""},
    "mkdocs": {"mkdocs.yml": "site_name: x", "package.json": package("vite")},
    "pelican": {"pelicanconf.py": ""},
    "jekyll": {"_config.yml": "title: x", "Gemfile": 'gem "jekyll"'},
    "sphinx": {"docs/conf.py": "project = 'x'", "setup.py": ""},
    "node": {"package.json": package("lodash", scripts={"build": "node build.js"})},
    "static": {"index.html": "hello", "package.json": package("prettier")},
}


def source(tmp_path: Path, files: dict[str, str], root: str | None = None) -> Source:
    for name, text in files.items():
        (tmp_path / "w" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "w" / name).write_text(text)
    return Source(tmp_path / "w", root)


def plan(tmp_path: Path, files: dict[str, str], root: str | None = None, **configuration: Any) -> Plan:
    """With all tools at hand but pnpm, bun and yarn."""
    tools = tmp_path / "tools"
    tools.mkdir(parents=True)
    for name in ("npm", "node", "hugo", "zola", "mdbook", "bundle", "jekyll"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    toolbox = Toolbox([tools], tmp_path / "home", "")
    return make_plan(
        source(tmp_path, files, root), DeploymentConfiguration(environment="production", **configuration), toolbox
    )


def commands(plan: Plan, tmp_path: Path) -> tuple[list[str], list[str]]:
    def text(runs: list[Any]) -> list[str]:
        return [str(run).replace(str(tmp_path / "home"), "~") for run in runs]

    return text(plan.install), text(plan.build)


@pytest.mark.parametrize("name", RECOGNISED)
def test_a_framework_is_recognised(tmp_path: Path, name: str) -> None:
    assert recognise(source(tmp_path, RECOGNISED[name]), None).name == name


def test_each_row_of_the_table_is_tested() -> None:
    assert {preset.name for preset in PRESETS} == set(RECOGNISED)


def test_a_named_framework_wins(tmp_path: Path) -> None:
    assert plan(tmp_path, RECOGNISED["vite"], framework="static").framework == "static"


def test_an_unknown_framework_is_refused_with_those_known(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="accepted are: angular, astro") as refused:
        plan(tmp_path, {}, framework="frontpage")

    assert refused.value.code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("lock", "text", "installs"),
    [
        ("package-lock.json", "{}", ["npm ci"]),
        ("npm-shrinkwrap.json", "{}", ["npm ci"]),
        (
            "pnpm-lock.yaml",
            "lockfileVersion: '6.0'",
            ["npm install --global --prefix ~/.local pnpm@8", "pnpm install --frozen-lockfile"],
        ),
        (
            "yarn.lock",
            "# yarn lockfile v1",
            ["npm install --global --prefix ~/.local yarn@1", "yarn install --frozen-lockfile"],
        ),
        (
            "yarn.lock",
            "__metadata:\n",
            ["npm install --global --prefix ~/.local @yarnpkg/cli-dist@4", "yarn install --immutable"],
        ),
        ("bun.lock", "{}", ["npm install --global --prefix ~/.local bun@1", "bun install --frozen-lockfile"]),
        ("README", "", ["npm install"]),
    ],
)
def test_the_lock_file_decides_how_packages_are_installed(
    tmp_path: Path, lock: str, text: str, installs: list[str]
) -> None:
    assert commands(plan(tmp_path, {**RECOGNISED["vite"], lock: text}), tmp_path)[0] == installs


def test_a_pinned_package_manager_is_taken_and_a_strange_one_is_not(tmp_path: Path) -> None:
    pinned = package("vite", packageManager="pnpm@9.1.2+sha512.abc")
    install, _ = commands(plan(tmp_path / "a", {"package.json": pinned, "pnpm-lock.yaml": ""}), tmp_path / "a")
    strange = package("vite", packageManager="pnpm@git+ssh://evil; rm -rf /")
    ignored, _ = commands(plan(tmp_path / "b", {"package.json": strange, "pnpm-lock.yaml": ""}), tmp_path / "b")

    assert install[0].endswith("pnpm@9.1.2")
    assert ignored[0].endswith("pnpm@9")


def test_a_workspace_is_installed_where_its_lock_file_is(tmp_path: Path) -> None:
    files = {"package-lock.json": "{}", "package.json": package(), "apps/web/package.json": package("vite")}

    made = plan(tmp_path, files, root="apps/web")

    assert [run.directory for run in made.install] == [tmp_path / "w"]
    assert [run.directory for run in made.build] == [tmp_path / "w" / "apps" / "web"]


def test_the_repositorys_own_script_wins_over_the_generators_command(tmp_path: Path) -> None:
    with_script = plan(
        tmp_path / "a", {"package.json": package("astro", scripts={"build": "astro check && astro build"})}
    )
    without = plan(tmp_path / "b", RECOGNISED["astro"])

    assert commands(with_script, tmp_path)[1] == ["npm run build"]
    assert commands(without, tmp_path)[1] == ["astro build"]


def test_what_is_configured_wins(tmp_path: Path) -> None:
    made = plan(tmp_path, RECOGNISED["vite"], install_command="make deps", build_command="make site")

    assert commands(made, tmp_path) == (["make deps"], ["make site"])


def test_packages_are_installed_before_a_configured_build(tmp_path: Path) -> None:
    node = plan(tmp_path / "a", {"package.json": package("left-pad")}, build_command="node x.js")
    python = plan(tmp_path / "b", {"requirements.txt": "jinja2"}, build_command="python x.py")
    neither = plan(tmp_path / "c", {"Makefile": ""}, build_command="make")

    assert commands(node, tmp_path / "a")[0] == ["npm install"]
    assert commands(python, tmp_path / "b")[0][1].endswith("-m pip install --requirement requirements.txt")
    assert commands(neither, tmp_path / "c") == ([], ["make"])
    assert neither.framework is None


def test_nothing_is_installed_where_nothing_is_needed(tmp_path: Path) -> None:
    files = {"package.json": json.dumps({"scripts": {"build": "node build.mjs"}}), "package-lock.json": "{}"}

    assert commands(plan(tmp_path, files), tmp_path) == ([], ["npm run build"])


@pytest.mark.parametrize(
    ("files", "arguments"),
    [
        ({"mkdocs.yml": "site_name: x"}, "mkdocs"),
        (
            {"mkdocs.yml": "theme:\n  name: material\nplugins:\n  - search\n  - awesome-pages\n"},
            "mkdocs mkdocs-material mkdocs-awesome-pages-plugin",
        ),
        (
            {"mkdocs.yml": "theme: readthedocs", "docs/requirements.txt": "x"},
            "--requirement docs/requirements.txt mkdocs",
        ),
        ({"mkdocs.yml": "", "requirements.txt": "x"}, "--requirement requirements.txt mkdocs"),
        ({"docs/conf.py": "extensions = ['myst_parser']\nhtml_theme = 'furo'"}, "sphinx furo myst-parser"),
        (
            {"docs/conf.py": "project = 1", "pyproject.toml": "[project.optional-dependencies]\ndocs = []"},
            "'.[docs]' sphinx",
        ),
        ({"pelicanconf.py": ""}, "'pelican[markdown]'"),
    ],
)
def test_python_generators_get_the_packages_that_they_ask_for(
    tmp_path: Path, files: dict[str, str], arguments: str
) -> None:
    install, _ = commands(plan(tmp_path, files), tmp_path)

    assert install[0].endswith("-m venv ~/venv")
    assert install[1] == f"~/venv/bin/python -m pip install {arguments}"


def test_sphinx_builds_from_where_its_configuration_is(tmp_path: Path) -> None:
    made = plan(tmp_path, {"docs/source/conf.py": "project = 'x'"})

    assert commands(made, tmp_path)[1] == ["sphinx-build -b html docs/source _site"]


def test_a_tool_that_is_not_installed_is_named(tmp_path: Path) -> None:
    files = source(tmp_path, RECOGNISED["hugo"])
    toolbox = Toolbox([], tmp_path / "home", "")

    with pytest.raises(DeploymentError, match="hugo, which is not installed") as refused:
        make_plan(files, DeploymentConfiguration(environment="production"), toolbox)

    assert refused.value.code == ErrorCode.INVALID_REQUEST
    assert refused.value.details["hint"]


def test_hostile_descriptions_are_survived(tmp_path: Path) -> None:
    for n, text in enumerate(("[" * 100_000, "null", "[]", '{"scripts": 1, "dependencies": []}', "\0", "{" * 10)):
        files = {"package.json": text, "pyproject.toml": text, "mkdocs.yml": text}
        assert plan(tmp_path / str(n), files).framework == "mkdocs"


def test_files_that_lead_out_of_the_repository_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text(package("vite"))
    inside = source(tmp_path, {"index.html": ""})
    (tmp_path / "w" / "package.json").symlink_to("../package.json")

    assert inside.package == {}
    assert recognise(inside, None).name == "static"


@pytest.mark.parametrize("root", ["missing", "leak", "index.html"])
async def test_a_root_directory_has_to_be_one_of_the_repository(tmp_path: Path, root: str) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "leak").symlink_to("/etc")

    with pytest.raises(DeploymentError, match="rootDirectory") as refused:
        source(tmp_path, {"index.html": "", "site/index.html": ""}, root)

    assert refused.value.code == ErrorCode.INVALID_REQUEST


async def test_a_node_project_is_built_with_its_own_script_for_real(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    script = "const fs = require('fs'); fs.mkdirSync('dist'); fs.writeFileSync('dist/index.html', process.version)"
    files = {"package.json": json.dumps({"scripts": {"build": "node build.js"}}), "build.js": script}
    internal = make_internal()

    built, last, messages = await build(internal, build_request(repository(files).url, node_version=">=16"))

    assert last.stage == "built", messages
    assert (internal.releases.files(built.deployment_id) / "index.html").read_text().startswith("v")


async def test_a_node_version_that_is_not_here_is_refused(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    _, last, _ = await build(make_internal(), build_request(repository({"index.html": ""}).url, node_version="4.2.1"))

    assert last.failure is not None
    assert last.failure.code == ErrorCode.INVALID_REQUEST
    assert "nodeVersion '4.2.1' is not installed" in last.failure.message
    assert last.failure.hint
