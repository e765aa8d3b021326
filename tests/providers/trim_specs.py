"""Cuts the official descriptions of providers' APIs down to the operations that we use, without their sentences.

    python -m tests.providers.trim_specs DIRECTORY_OF_THE_WHOLE_FILES

Where they come from is in each file's `info`; their licences are Apache-2.0 (vercel/sdk) and MIT (@netlify/open-api,
@octokit/openapi). Kept are paths, parameters, schemas and statuses; left out are descriptions, summaries and examples.
"""

import json
import sys
from pathlib import Path
from typing import Any

SPECS = Path(__file__).parent / "specs"
_SENTENCES = frozenset({"summary", "example", "examples", "externalDocs", "deprecated", "title"})
_MAPS = frozenset(
    {"properties", "schemas", "responses", "parameters", "content", "headers", "paths", "securitySchemes"}
)
"""Their keys are names of the API's, not of OpenAPI's."""
_SCHEMA = frozenset({"type", "schema", "in", "enum", "properties", "anyOf", "oneOf", "allOf"})

SOURCES = {
    "vercel": ("vercel.json", "Apache-2.0"),
    "netlify": ("netlify.oas3.json", "MIT"),
    "github": ("github.json", "MIT"),
}
OPERATIONS = {
    "vercel": {
        "/v13/deployments": ["post"],
        "/v13/deployments/{idOrUrl}": ["get"],
        "/v7/deployments": ["get"],
        "/v12/deployments/{id}/cancel": ["patch"],
        "/v3/deployments/{idOrUrl}/events": ["get"],
        "/v9/projects/{idOrName}": ["get"],
        "/v10/projects/{idOrName}/env": ["post"],
        "/v10/projects/{projectId}/promote/{deploymentId}": ["post"],
        "/v1/projects/{projectId}/rollback/{deploymentId}": ["post"],
    },
    "netlify": {
        "/sites/{site_id}": ["get"],
        "/sites/{site_id}/builds": ["post"],
        "/sites/{site_id}/deploys": ["get", "post"],
        "/deploys/{deploy_id}": ["get"],
        "/deploys/{deploy_id}/cancel": ["post"],
        "/deploys/{deploy_id}/files/{path}": ["put"],
        "/deploys/{deploy_id}/lock": ["post"],
        "/sites/{site_id}/deploys/{deploy_id}/restore": ["post"],
        "/accounts/{account_id}/env": ["get", "post"],
        "/accounts/{account_id}/env/{key}": ["patch"],
    },
    "github": {
        "/repos/{owner}/{repo}": ["get"],
        "/repos/{owner}/{repo}/commits/{ref}": ["get"],
        "/repos/{owner}/{repo}/deployments": ["get", "post"],
        "/repos/{owner}/{repo}/deployments/{deployment_id}/statuses": ["get", "post"],
        "/repos/{owner}/{repo}/installation": ["get"],
        "/repos/{owner}/{repo}/check-runs/{check_run_id}/annotations": ["get"],
        "/repos/{owner}/{repo}/actions/runs/{run_id}/artifacts": ["get"],
        "/repos/{owner}/{repo}/pages": ["get"],
        "/repos/{owner}/{repo}/pages/builds": ["get", "post"],
        "/repos/{owner}/{repo}/pages/deployments/{pages_deployment_id}": ["get"],
        "/repos/{owner}/{repo}/actions/workflows/{workflow_id}/dispatches": ["post"],
        "/repos/{owner}/{repo}/actions/workflows/{workflow_id}/runs": ["get"],
        "/repos/{owner}/{repo}/actions/runs/{run_id}": ["get"],
        "/repos/{owner}/{repo}/actions/runs/{run_id}/cancel": ["post"],
        "/repos/{owner}/{repo}/actions/runs/{run_id}/force-cancel": ["post"],
        "/repos/{owner}/{repo}/actions/runs/{run_id}/jobs": ["get"],
        "/repos/{owner}/{repo}/actions/jobs/{job_id}/logs": ["get"],
        "/app/installations/{installation_id}/access_tokens": ["post"],
    },
}


def trimmed(whole: dict[str, Any], operations: dict[str, list[str]], licence: str) -> dict[str, Any]:
    missing = sorted(set(operations) - set(whole["paths"]))
    assert not missing, f"the description has no {', '.join(missing)}"
    paths = {path: _operations(whole["paths"][path], methods) for path, methods in sorted(operations.items())}
    info = whole["info"]
    kept = {
        "openapi": whole["openapi"],
        "info": {
            "title": info["title"],
            "version": info["version"],
            "license": {"name": licence},
            "x-trimmed-from": info["x-trimmed-from"],
        },
        "servers": [{"url": "/"}],
        "security": whole.get("security", []),
        "paths": _plain(paths, names=True),
    }
    kept["components"] = _used(whole["components"], kept["paths"])
    return kept


def _operations(path: dict[str, Any], methods: list[str]) -> dict[str, Any]:
    shared = {"parameters": path["parameters"]} if "parameters" in path else {}
    return shared | {method: path[method] for method in methods}


def _plain(node: Any, *, names: bool = False) -> Any:
    if isinstance(node, list):
        return [_plain(part) for part in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: _plain(part, names=not names and key in _MAPS)
        for key, part in node.items()
        if names or not (key in _SENTENCES or key.startswith("x-") or (key == "description" and isinstance(part, str)))
    }
    if not names and node.get("nullable") and None not in node.get("enum", [None]):
        kept["enum"] = [*node["enum"], None]  # as it is meant: GitHub's are null until something has ended
    if not names and "description" in node and not _SCHEMA.intersection(node):
        kept["description"] = ""  # an answer has to have one
    return kept


def _used(components: dict[str, Any], paths: Any) -> dict[str, Any]:
    """The components that are named from `paths`, and those that they name."""
    # A token of OAuth is sent as a bearer token; openapi-core knows it by that name alone.
    schemes = {name: {"type": "http", "scheme": "bearer"} for name in components.get("securitySchemes", {})}
    used: dict[str, Any] = {"securitySchemes": schemes}
    todo = _references(paths)
    while todo:
        _, _, kind, name = todo.pop().split("/")
        if name not in used.setdefault(kind, {}):
            used[kind][name] = _plain(components[kind][name])
            todo |= _references(used[kind][name])
    return {kind: dict(sorted(named.items())) for kind, named in used.items() if named}


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(_references, node.values()))
    return set().union(*map(_references, node)) if isinstance(node, list) else set()


def main(directory: Path) -> None:
    for name, (file, licence) in SOURCES.items():
        whole = json.loads((directory / file).read_text())
        kept = trimmed(whole, OPERATIONS[name], licence)
        (SPECS / f"{name}.json").write_text(json.dumps(kept, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
