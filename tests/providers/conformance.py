"""The conformance suite, with its assertions explained by pytest."""

import pytest

pytest.register_assert_rewrite("providers.conformance")

from providers.conformance import ProviderConformance, messages, told  # noqa: E402 - after the line above

__all__ = ["ProviderConformance", "messages", "told"]
