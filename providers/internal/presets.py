"""The one table of what is recognised from a repository, and what each row means for building it.

Rule: the first row that fits wins, so rows stand from the telling (a generator's own configuration file) to the vague.
`docs/internal-provider.md` shows this table; a test compares the two.
"""

import re
from dataclasses import dataclass
from typing import Literal

from domain.errors import DeploymentError, ErrorCode
from providers.internal.source import Source


@dataclass(frozen=True)
class Preset:
    """`{directory}` in commands and outputs is where the file was found by which the site was recognised."""

    name: str
    language: Literal["node", "python"] | None = None
    files: tuple[str, ...] = ()
    says: str = ""  # a pattern that the file's text has to hold, where its name alone could mean others
    dependency: str | None = None
    packages: tuple[str, ...] = ()
    tool: str | None = None
    install: str | None = None
    scripts: tuple[str, ...] = ("build",)
    build: str | None = None
    outputs: tuple[str, ...] = ()
    hint: str | None = None

    def recognises(self, source: Source) -> bool:
        if self.dependency is not None and self.dependency in source.dependencies:
            return True
        needs_package = self.dependency is not None and not self.packages
        return not needs_package and self._file(source) is not None

    def directory(self, source: Source) -> str:
        found = self._file(source)
        return (found.rpartition("/")[0] if found else "") or "."

    def _file(self, source: Source) -> str | None:
        fits = re.compile(self.says, re.MULTILINE)
        return next((f for f in self.files if source.has(f) and (not self.says or fits.search(source.text(f)))), None)


_ELEVENTY = tuple(f"eleventy.config.{ending}" for ending in ("js", "mjs", "cjs", "ts"))

PRESETS: tuple[Preset, ...] = (
    Preset("docusaurus", "node", dependency="@docusaurus/core", build="docusaurus build", outputs=("build",)),
    Preset("astro", "node", dependency="astro", build="astro build", outputs=("dist",)),
    Preset(
        "next",
        "node",
        dependency="next",
        build="next build",
        outputs=("out",),
        hint="set output: 'export' in next.config.js: sites are served as files",
    ),
    Preset(
        "nuxt",
        "node",
        dependency="nuxt",
        scripts=("generate",),
        build="nuxt generate",
        outputs=(".output/public", "dist"),
    ),
    Preset(
        "sveltekit",
        "node",
        dependency="@sveltejs/kit",
        build="vite build",
        outputs=("build",),
        hint="use @sveltejs/adapter-static: sites are served as files",
    ),
    Preset("gatsby", "node", dependency="gatsby", build="gatsby build", outputs=("public",)),
    Preset("hexo", "node", dependency="hexo", build="hexo generate", outputs=("public",)),
    Preset(
        "vitepress",
        "node",
        dependency="vitepress",
        files=(".vitepress", "docs/.vitepress", "src/.vitepress"),
        scripts=("build", "docs:build"),
        build="vitepress build {directory}",
        outputs=("{directory}/.vitepress/dist",),
    ),
    Preset(
        "vuepress",
        "node",
        dependency="vuepress",
        files=(".vuepress", "docs/.vuepress", "src/.vuepress"),
        scripts=("build", "docs:build"),
        build="vuepress build {directory}",
        outputs=("{directory}/.vuepress/dist",),
    ),
    Preset(
        "eleventy",
        "node",
        dependency="@11ty/eleventy",
        files=(".eleventy.js", *_ELEVENTY),
        packages=("@11ty/eleventy",),
        build="eleventy",
        outputs=("_site",),
    ),
    Preset(
        "hugo",
        files=("hugo.toml", "hugo.yaml", "hugo.yml", "hugo.json", "config/_default/hugo.toml"),
        tool="hugo",
        build="hugo --minify",
        outputs=("public",),
    ),
    Preset(
        "hugo",
        files=("config.toml", "config.yaml", "config.yml", "config/_default/config.toml"),
        says=r"^\s*(baseURL|baseurl)\s*[=:]",
        tool="hugo",
        build="hugo --minify",
        outputs=("public",),
    ),
    Preset(
        "zola", files=("config.toml",), says=r"^\s*base_url\s*=", tool="zola", build="zola build", outputs=("public",)
    ),
    Preset("mdbook", files=("book.toml",), tool="mdbook", build="mdbook build", outputs=("book",)),
    Preset(
        "mkdocs",
        "python",
        files=("mkdocs.yml", "mkdocs.yaml"),
        packages=("mkdocs",),
        build="mkdocs build --site-dir site",
        outputs=("site",),
    ),
    Preset(
        "pelican",
        "python",
        files=("pelicanconf.py",),
        packages=("pelican[markdown]",),
        build="pelican --settings pelicanconf.py --output output",
        outputs=("output",),
    ),
    Preset(
        "angular",
        "node",
        dependency="@angular/core",
        files=("angular.json",),
        build="ng build",
        outputs=("dist/*/browser", "dist/*", "dist"),
    ),
    Preset("create-react-app", "node", dependency="react-scripts", build="react-scripts build", outputs=("build",)),
    Preset("vue-cli", "node", dependency="@vue/cli-service", build="vue-cli-service build", outputs=("dist",)),
    Preset("parcel", "node", dependency="parcel", build="parcel build", outputs=("dist",)),
    Preset("vite", "node", dependency="vite", build="vite build", outputs=("dist",)),
    Preset(
        "jekyll",
        files=("Gemfile",),
        says="jekyll|github-pages",
        tool="bundle",
        install="bundle install",
        build="bundle exec jekyll build --destination _site",
        outputs=("_site",),
    ),
    Preset(
        "jekyll",
        files=("_config.yml", "_config.toml"),
        tool="jekyll",
        build="jekyll build --destination _site",
        outputs=("_site",),
    ),
    Preset(
        "sphinx",
        "python",
        files=("conf.py", "docs/conf.py", "doc/conf.py", "docs/source/conf.py", "source/conf.py"),
        says=r"^\s*(extensions|html_theme|master_doc|root_doc|project)\s*=",
        packages=("sphinx",),
        build="sphinx-build -b html {directory} _site",
        outputs=("_site",),
    ),
    Preset("node", "node", files=("package.json",), says=r'"scripts"\s*:\s*\{[^}]*"build"\s*:'),
    Preset("static", outputs=(".",)),
)


def recognise(source: Source, framework: str | None) -> Preset:
    """The preset that is named, else the first one that fits; plain files always do.

    Raises:
        DeploymentError: invalid-request for a name that is not in the table.
    """
    if framework is None:
        return next(preset for preset in PRESETS if preset.recognises(source) or preset.name == "static")
    named = [preset for preset in PRESETS if preset.name == framework]
    if named:
        return next((preset for preset in named if preset.recognises(source)), named[0])
    known = ", ".join(sorted({preset.name for preset in PRESETS}))
    raise DeploymentError(ErrorCode.INVALID_REQUEST, f"framework {framework!r} is not known; accepted are: {known}")
