"""Failures inside the suite are explained by pytest like failures of one's own tests."""

import pytest

pytest.register_assert_rewrite("providers.conformance")
