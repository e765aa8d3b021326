"""Which Python packages a site needs: what its repository lists, and what its generator's configuration asks for."""

import re
import tomllib
from posixpath import normpath
from typing import Any

from providers.internal.source import Source

_LISTS = (
    *("{directory}/requirements.txt", "docs/requirements.txt", "doc/requirements.txt", "requirements-docs.txt"),
    *("requirements/docs.txt", "docs/requirements-docs.txt", "docs-requirements.txt", "requirements.txt"),
)
"""The nearest to the site first: the last one is the project's own, which may be large."""

_GROUPS = ("docs", "doc", "documentation")

_ASKED_FOR = {
    "mkdocs": {
        r"^\s*name:\s*['\"]?material\b": "mkdocs-material",
        r"-\s*['\"]?awesome-pages\b": "mkdocs-awesome-pages-plugin",
        r"-\s*['\"]?gen-files\b": "mkdocs-gen-files",
        r"-\s*['\"]?git-revision-date-localized\b": "mkdocs-git-revision-date-localized-plugin",
        r"-\s*['\"]?glightbox\b": "mkdocs-glightbox",
        r"-\s*['\"]?literate-nav\b": "mkdocs-literate-nav",
        r"-\s*['\"]?macros\b": "mkdocs-macros-plugin",
        r"-\s*['\"]?minify\b": "mkdocs-minify-plugin",
        r"-\s*['\"]?mkdocstrings\b": "mkdocstrings[python]",
        r"-\s*['\"]?redirects\b": "mkdocs-redirects",
        r"-\s*['\"]?section-index\b": "mkdocs-section-index",
        r"\bpymdownx\.": "pymdown-extensions",
    },
    "sphinx": {
        r"['\"]furo['\"]": "furo",
        r"['\"]myst_parser['\"]": "myst-parser",
        r"['\"]nbsphinx['\"]": "nbsphinx",
        r"['\"]pydata_sphinx_theme['\"]": "pydata-sphinx-theme",
        r"['\"]sphinx_book_theme['\"]": "sphinx-book-theme",
        r"['\"]sphinx_copybutton['\"]": "sphinx-copybutton",
        r"['\"]sphinx_design['\"]": "sphinx-design",
        r"['\"]sphinx_rtd_theme['\"]": "sphinx-rtd-theme",
        r"['\"]sphinx_tabs\.tabs['\"]": "sphinx-tabs",
        r"['\"]sphinxcontrib\.mermaid['\"]": "sphinxcontrib-mermaid",
    },
}


def pip_arguments(source: Source, generator: str | None, packages: tuple[str, ...], directory: str = ".") -> list[str]:
    """What follows `pip install`; empty when nothing is needed."""
    listed = next((path for text in _LISTS if source.has(path := normpath(text.format(directory=directory)))), None)
    if listed is not None:
        return ["--requirement", listed, *packages]
    extra = _documentation_extra(source) if generator is not None else None
    if extra is not None:
        return [f".[{extra}]", *packages]
    if generator is None:
        return list(packages)
    return [*packages, *_asked_for(generator, source, directory)]


def _asked_for(generator: str, source: Source, directory: str) -> list[str]:
    text = "\n".join(source.text(f"{directory}/{name}") for name in ("mkdocs.yml", "mkdocs.yaml", "conf.py"))
    return [
        package for pattern, package in _ASKED_FOR.get(generator, {}).items() if re.search(pattern, text, re.MULTILINE)
    ]


def _documentation_extra(source: Source) -> str | None:
    """The extra of the repository's own package that builds its documentation."""
    try:
        described: dict[str, Any] = tomllib.loads(source.text("pyproject.toml"))
    except (tomllib.TOMLDecodeError, RecursionError):
        return None
    project = described.get("project")
    extras = project.get("optional-dependencies") if isinstance(project, dict) else None
    return next((group for group in _GROUPS if isinstance(extras, dict) and group in extras), None)
