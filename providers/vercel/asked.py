"""What a request asks of Vercel, in Vercel's words: the deployment, its settings, its variables.

Rule: variables are sent by themselves. A deployment has no place for them in its description, and would show them.
"""

from typing import Any

from domain.build import BuildRequest
from domain.errors import DeploymentError, ErrorCode
from domain.source import check_source_ref, is_commit
from providers.vercel.api import TOKEN
from providers.vercel.settings import PREVIEW, PRODUCTION, Settings, commit_of

ID = "headwayDeploymentId"
"""The key in a deployment's `meta` that holds our deployment id."""

PROJECT_SETTINGS = {
    "build_command": "buildCommand",
    "install_command": "installCommand",
    "output_directory": "outputDirectory",
    "root_directory": "rootDirectory",
}
MAX_SETTING = 256
NODE_VERSIONS = ("24", "22", "20", "18")
FRAMEWORKS = {"next": "nextjs", "nuxt": "nuxtjs", "vue-cli": "vue"}
"""Where Vercel's word is another. What it does not know it refuses by name."""
NO_FRAMEWORKS = frozenset({"mdbook", "mkdocs", "pelican", "sphinx", "static"})
"""Vercel has no word for them: the commands say how they are built."""


def check(request: BuildRequest) -> None:
    """Refuses what cannot be built, before anything is made.

    Raises:
        DeploymentError: saying what is refused and what would be accepted.
    """
    check_source_ref(request.source_ref)
    target = Settings.read(request.provider_settings).target_of(request)
    if request.configuration.skip_deploy and target == PRODUCTION:
        raise _refused("skipDeploy", "vercel publishes what it builds for production by itself", "the target preview")
    if target not in {PRODUCTION, PREVIEW} and variables_of(request, target):
        raise _refused("variables", f"those of the target {target!r} are set at vercel", "production and preview")
    project_settings(request)


def deployment_of(request: BuildRequest, settings: Settings, target: str) -> dict[str, Any]:
    """The body that creates the deployment. Without a target it is a preview."""
    body: dict[str, Any] = {
        "name": settings.project_name or request.project_id,
        "project": settings.project_id,
        "target": None if target == PREVIEW else target,
        "gitSource": settings.git_source.at(request.source_ref, commit_of(request)),
        "projectSettings": project_settings(request) or None,
        "meta": {ID: request.deployment_id, "headwayEnvironment": request.environment},
    }
    return {key: value for key, value in body.items() if value is not None}


def variables_of(request: BuildRequest, target: str) -> list[dict[str, Any]]:
    """Secrets cannot be read again at Vercel (`sensitive`). A preview's are those of its branch; a commit has none."""
    secrets = {name: value for name, value in request.secrets.items() if name != TOKEN}
    others = {name: value for name, value in request.configuration.environment_variables.items() if name not in secrets}
    branch = {} if target == PRODUCTION or is_commit(request.source_ref) else {"gitBranch": request.source_ref}
    return [
        {"key": name, "value": value, "type": kind, "target": [target], **branch}
        for kind, values in (("encrypted", others), ("sensitive", secrets))
        for name, value in sorted(values.items())
    ]


def project_settings(request: BuildRequest) -> dict[str, str]:
    """What the configuration says. What it does not say, the project at Vercel does."""
    configuration = request.configuration
    said = {theirs: getattr(configuration, ours) for ours, theirs in PROJECT_SETTINGS.items()}
    settings = {name: value for name, value in said.items() if value is not None}
    for name, value in settings.items():
        if len(value) > MAX_SETTING:
            raise _refused(name, "it is too long for vercel", f"{MAX_SETTING} characters")
    if configuration.framework is not None and configuration.framework not in NO_FRAMEWORKS:
        settings["framework"] = FRAMEWORKS.get(configuration.framework, configuration.framework)
    if configuration.node_version is not None:
        major = configuration.node_version.strip().removeprefix("v").partition(".")[0]
        if major not in NODE_VERSIONS:
            raise _refused("nodeVersion", f"vercel has no {configuration.node_version!r}", ", ".join(NODE_VERSIONS))
        settings["nodeVersion"] = f"{major}.x"
    return settings


def _refused(what: str, why: str, accepted: str) -> DeploymentError:
    return DeploymentError(ErrorCode.INVALID_REQUEST, f"{what} is refused: {why}; accepted is {accepted}")
