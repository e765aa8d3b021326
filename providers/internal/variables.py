"""The variables of a build: what it needs to run, what is known of it, and what its configuration says. No others."""

import os
from pathlib import Path

from domain.deployment import Repository
from domain.source import GIT_TOKEN
from providers.internal.builds import Instructions
from providers.internal.plan import Toolbox
from providers.internal.source import Source

_QUIET = {
    "ASTRO_TELEMETRY_DISABLED": "1",
    "DO_NOT_TRACK": "1",
    "GATSBY_TELEMETRY_DISABLED": "1",
    "NEXT_TELEMETRY_DISABLED": "1",
    "NG_CLI_ANALYTICS": "false",
    "NO_COLOR": "1",
    "NUXT_TELEMETRY_DISABLED": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "npm_config_audit": "false",
    "npm_config_fund": "false",
    "npm_config_progress": "false",
    "npm_config_update_notifier": "false",
}
"""Nobody is there to be asked, told of news or counted."""

_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_ASK_FOR_A_BUNDLE = ("NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Node and Python bring authorities of their own; the host's may know one more, such as a company's."""


def build_variables(
    instructions: Instructions, source: Source, tools: Toolbox, repository: Repository | None
) -> dict[str, str]:
    """The configuration's own win; GIT_TOKEN was for the repository's server."""
    request, cache = instructions.request, instructions.cache
    modules = dict.fromkeys(str(place / "node_modules" / ".bin") for place in (source.root, source.top))
    secrets = {name: value for name, value in request.secrets.items() if name != GIT_TOKEN}
    return {
        "PATH": os.pathsep.join([*modules, tools.path]),
        "CI": "true",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "BUNDLE_PATH": str(tools.home / "bundle"),
        "PIP_CACHE_DIR": str(cache / "pip"),
        "YARN_CACHE_FOLDER": str(cache / "yarn"),
        "npm_config_cache": str(cache / "npm"),
        **_QUIET,
        **_authorities(),
        **instructions.environment,
        "HEADWAY": "1",
        "HEADWAY_COMMIT": (repository.commit if repository else None) or "",
        "HEADWAY_DEPLOYMENT_ID": request.deployment_id,
        "HEADWAY_ENVIRONMENT": request.environment,
        "HEADWAY_PROJECT_ID": request.project_id,
        "HEADWAY_REF": request.source_ref,
        **request.configuration.environment_variables,
        **secrets,
    }


def _authorities() -> dict[str, str]:
    """The host's certificate authorities, for the programs that do not look for them."""
    bundle = next((path for path in _BUNDLES if os.path.exists(path)), None)
    return dict.fromkeys(_ASK_FOR_A_BUNDLE, bundle) if bundle else {}


def write_tool_settings(instructions: Instructions, home: Path) -> None:
    """What a tool reads from a file alone: pnpm's cache, which npm would warn of as a variable."""
    settings = home / ".config" / "pnpm" / "rc"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(f"store-dir={instructions.cache / 'pnpm'}\n", encoding="utf-8")
