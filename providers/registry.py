"""The list of providers, in alphabetical order: those that are built in, and plug-ins of other packages.

A package offers a plug-in by the entry point group `headway.providers`: its name, and a class that keeps the promise.

Rules:
1. A provider is chosen by its name, here alone.
2. What is offered wrongly is refused when the service starts. What cannot be loaded keeps nobody else from working: it
   is listed without a capability, and whoever names it is told why.
"""

import functools
import inspect
import re
from importlib.metadata import EntryPoint, entry_points

import structlog

from providers.base import Provider
from providers.custom.provider import Custom
from providers.github_pages.provider import GithubPages
from providers.internal.provider import Internal
from providers.missing import missing
from providers.netlify.provider import Netlify
from providers.vercel.provider import Vercel

ALL: tuple[type[Provider], ...] = (Custom, GithubPages, Internal, Netlify, Vercel)
"""Those that are built in."""

PLUGINS = "headway.providers"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")

_log = structlog.get_logger()


class RefusedPlugin(Exception):
    """A package offers something as a provider that cannot be one."""


@functools.cache
def provider_classes() -> dict[str, type[Provider]]:
    """All of them by name, in alphabetical order.

    Raises:
        RefusedPlugin: naming the distribution.
    """
    classes = {provider.name: provider for provider in ALL}
    offered = sorted(entry_points(group=PLUGINS), key=lambda entry: (entry.name, _distribution(entry)))
    origins = dict.fromkeys(classes, "is built in")
    for entry in offered:
        if entry.name in classes:
            raise _refused(entry, f"a provider of that name {origins[entry.name]}")
        classes[entry.name] = _loaded(entry)
        origins[entry.name] = f"comes from {_distribution(entry)}"
    return dict(sorted(classes.items()))


def plugin_instances() -> dict[str, Provider]:
    """One of each plug-in, by name. One that cannot be made is told like one that cannot be loaded."""
    built_in = {provider.name for provider in ALL}
    return {name: _made(name, plugin) for name, plugin in provider_classes().items() if name not in built_in}


def _loaded(entry: EntryPoint) -> type[Provider]:
    if not _NAME.fullmatch(entry.name):
        raise _refused(entry, "the name has to be of lower-case letters, digits and '-', and begin with a letter")
    try:
        offered = entry.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever another package's code raises on its import
        _log.error("a plug-in cannot be loaded", provider=entry.name, of=_distribution(entry), exc_info=error)
        return missing(entry.name, f"the plug-in of {_distribution(entry)} cannot be loaded: {type(error).__name__}")
    if not (inspect.isclass(offered) and issubclass(offered, Provider)):
        raise _refused(entry, f"{entry.value} is no subclass of providers.base.Provider")
    if inspect.isabstract(offered):
        lacks = ", ".join(sorted(offered.__abstractmethods__))
        raise _refused(entry, f"{entry.value} lacks {lacks}")
    if getattr(offered, "name", None) != entry.name or not isinstance(
        getattr(offered, "capabilities", None), frozenset
    ):
        raise _refused(entry, f"{entry.value} has to say name = {entry.name!r}, and its capabilities as a frozenset")
    return offered


def _made(name: str, plugin: type[Provider]) -> Provider:
    try:
        return plugin()
    except Exception as error:  # noqa: BLE001 - as above; it may say which of its variables is wrong
        _log.error("a plug-in cannot be made", provider=name, exc_info=error)
        return missing(name, f"the plug-in {name} cannot be made: {type(error).__name__}")()


def _refused(entry: EntryPoint, why: str) -> RefusedPlugin:
    return RefusedPlugin(f"{_distribution(entry)} offers the provider {entry.name!r}, which is refused: {why}")


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
