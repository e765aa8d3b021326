"""The provider `folder` keeps the promise of all providers."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from headway_folder import Folder

from domain.configuration import DeploymentConfiguration
from providers.base import BuildRequest
from providers.conformance import ProviderConformance


def asked_for(ref: str) -> BuildRequest:
    return BuildRequest(
        deployment_id=str(uuid4()),
        project_id="shop",
        environment="production",
        source_ref=ref,
        configuration=DeploymentConfiguration(environment="production"),
        deadline=datetime.now(UTC) + timedelta(seconds=60),
    )


class TestFolder(ProviderConformance):
    @pytest.fixture
    def provider(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
        monkeypatch.setenv("HEADWAY_FOLDER_ROOT", str(tmp_path))
        monkeypatch.setenv("HEADWAY_FOLDER_URL", "https://sites.example.org")
        for ref in ("well", "failing", "endless"):
            (tmp_path / "drop" / "shop" / ref).mkdir(parents=True)
        for number in range(250):
            (tmp_path / "drop" / "shop" / "well" / f"{number}.txt").touch()
        (tmp_path / "drop" / "shop" / "well" / "index.html").write_text("hello")
        for ref in ("well", "failing"):
            (tmp_path / "drop" / "shop" / ref / ".complete").touch()
        return Folder()

    @pytest.fixture
    def well(self) -> BuildRequest:
        return asked_for("well")

    @pytest.fixture
    def failing(self) -> BuildRequest:
        return asked_for("failing")

    @pytest.fixture
    def endless(self) -> BuildRequest:
        return asked_for("endless")
