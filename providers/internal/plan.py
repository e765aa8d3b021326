"""From a repository and its configuration to the commands that build it and the places where the output may be.

Rule: what is configured wins; what is not comes from the preset that recognises the repository.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from domain.configuration import DeploymentConfiguration
from domain.errors import DeploymentError, ErrorCode
from providers.internal.node import Node, choose_node, installed_nodes, node_in
from providers.internal.node_packages import has_packages, package_manager
from providers.internal.presets import Preset, recognise
from providers.internal.python_packages import pip_arguments
from providers.internal.source import Source

_SHELL = ["/bin/sh", "-c"]
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


class Toolbox:
    """The programs that builds may use: the system's, those of `directories`, one Node.js and one Python."""

    def __init__(self, directories: Iterable[Path], home: Path, search_path: str) -> None:
        self.directories = list(directories)
        self.home = home
        self.venv = home / "venv"
        self.search_path = search_path
        self.python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
        self.node: Node | None = None

    def choose_node(self, asked: str | None) -> None:
        """Takes the first Node.js of the search path, unless a version is asked for."""
        if asked is None:
            self.node = node_in(self.search_path)
        else:
            self.node = choose_node(asked, installed_nodes(self.search_path, Path.home()))

    @property
    def path(self) -> str:
        places = [self.venv / "bin", self.home / ".local" / "bin", *self.directories]
        if self.node is not None and str(self.node.directory) not in SYSTEM_PATH.split(os.pathsep):
            places.append(self.node.directory)
        return os.pathsep.join([*map(str, places), SYSTEM_PATH, str(self.python.parent)])

    @property
    def readable(self) -> list[Path]:
        """What a sandbox has to show beyond the system's directories."""
        prefixes = [*self.directories, Path(sys.base_prefix)]
        if self.node is not None:
            prefixes.append(self.node.prefix)
        return [prefix for prefix in prefixes if not prefix.is_relative_to("/usr")]

    def has(self, tool: str) -> bool:
        return shutil.which(tool, path=self.path) is not None

    def demand(self, tool: str, why: str) -> None:
        if not self.has(tool):
            raise DeploymentError(
                ErrorCode.INVALID_REQUEST,
                f"{why} needs {tool}, which is not installed on this builder",
                details={"hint": f"install {tool} on the builder, or say framework, buildCommand and outputDirectory"},
            )


@dataclass(frozen=True)
class Run:
    """One command of a step."""

    argv: list[str]
    directory: Path

    def __str__(self) -> str:
        """As one would type it."""
        return self.argv[2] if self.argv[:2] == _SHELL else shlex.join(self.argv)


@dataclass(frozen=True)
class Plan:
    """`framework` is None where a command of the user's own builds what no preset recognises."""

    framework: str | None
    outputs: tuple[str, ...]
    install: list[Run] = field(default_factory=list)
    build: list[Run] = field(default_factory=list)
    hint: str | None = None


def make_plan(source: Source, configuration: DeploymentConfiguration, tools: Toolbox) -> Plan:
    """How this repository is built.

    Raises:
        DeploymentError: invalid-request for an unknown framework, or a tool or Node.js version that is not here.
    """
    preset = recognise(source, configuration.framework)
    directory = preset.directory(source)
    return Plan(
        framework=None if preset.name == "static" and configuration.build_command else preset.name,
        outputs=tuple(output.format(directory=directory) for output in preset.outputs),
        install=_install(source, preset, configuration, tools),
        build=_build(source, preset, configuration, tools),
        hint=preset.hint,
    )


def _install(source: Source, preset: Preset, configuration: DeploymentConfiguration, tools: Toolbox) -> list[Run]:
    own_build = configuration.build_command is not None
    runs = []
    if preset.language == "python" or (own_build and source.has("requirements.txt")):
        runs += _install_python(source, preset, tools, venv_alone=configuration.install_command is not None)
    if configuration.install_command is not None:
        return [*runs, _shell(configuration.install_command, source)]
    if preset.language != "python" or own_build:
        runs += _install_node(source, preset, tools)
    return [*runs, *([Run(preset.install.split(), source.root)] if preset.install and not own_build else [])]


def _install_python(source: Source, preset: Preset, tools: Toolbox, *, venv_alone: bool) -> list[Run]:
    generator = preset.name if preset.language == "python" else None
    arguments = pip_arguments(source, generator, preset.packages if generator else (), preset.directory(source))
    make = Run([str(tools.python), "-m", "venv", str(tools.venv)], source.root)
    if venv_alone:
        return [make]
    return [make, Run([str(tools.venv / "bin" / "python"), "-m", "pip", "install", *arguments], source.root)]


def _install_node(source: Source, preset: Preset, tools: Toolbox) -> list[Run]:
    if preset.language == "node" and not source.has("package.json"):
        tools.demand("npm", f"a site of {preset.name}")
        return [Run(["npm", "install", "--no-save", *preset.packages], source.root)]
    if not has_packages(source):
        return []
    tools.demand("npm", "package.json")
    manager = package_manager(source)
    bootstrap = [] if tools.has(manager.name) else [Run(manager.bootstrap(tools.home), manager.directory)]
    return [*bootstrap, Run(manager.install, manager.directory)]


def _build(source: Source, preset: Preset, configuration: DeploymentConfiguration, tools: Toolbox) -> list[Run]:
    if configuration.build_command is not None:
        return [_shell(configuration.build_command, source)]
    if preset.language == "node":
        tools.demand("npm", f"a site of {preset.name}")
        script = next((script for script in preset.scripts if script in source.scripts), None)
        if script is not None:
            runner = package_manager(source).name if has_packages(source) else "npm"
            return [Run([runner, "run", script], source.root)]
    if preset.tool is not None:
        tools.demand(preset.tool, f"a site of {preset.name}")
    if preset.build is None:
        return []
    return [Run(preset.build.format(directory=preset.directory(source)).split(), source.root)]


def _shell(command: str, source: Source) -> Run:
    """A user's own command, as the user would type it; it runs inside the sandbox."""
    return Run([*_SHELL, command], source.root)
