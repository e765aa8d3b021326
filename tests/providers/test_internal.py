"""The `internal` provider keeps the promise of all providers. `internal/` has what is its own."""

import pytest

from providers.base import BuildRequest
from providers.internal.provider import Internal
from tests.providers.conformance import ProviderConformance
from tests.providers.conftest import MakeInternal, MakeRepository, build_request


class TestInternal(ProviderConformance):
    @pytest.fixture
    def provider(self, make_internal: MakeInternal) -> Internal:
        return make_internal()

    @pytest.fixture
    def well(self, repository: MakeRepository) -> BuildRequest:
        url = repository({"index.html": "hello"}).url
        return build_request(url, build_command="seq 1 2500", output_directory=".")

    @pytest.fixture
    def failing(self, repository: MakeRepository) -> BuildRequest:
        return build_request(repository({"index.html": "hello"}).url, build_command="exit 7")

    @pytest.fixture
    def endless(self, repository: MakeRepository) -> BuildRequest:
        return build_request(repository({"index.html": "hello"}).url, build_command="sleep 600")
