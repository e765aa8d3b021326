"""The list of providers, in alphabetical order. A provider is chosen by its name, here alone."""

from providers.base import Provider
from providers.internal.provider import Internal

ALL: tuple[type[Provider], ...] = (Internal,)
