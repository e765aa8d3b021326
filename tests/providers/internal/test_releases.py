"""What gets into a release, and what is refused."""

import os
import socket
import stat
from pathlib import Path

import pytest

from domain.errors import DeploymentError, ErrorCode
from providers.internal.limits import Limits
from providers.internal.releases import OutputPlaces, Releases, usual_sites
from providers.internal.source import Source
from tests.providers.conftest import build_request


@pytest.fixture
def output(tmp_path: Path) -> Path:
    made = tmp_path / "workspace" / "dist"
    made.mkdir(parents=True)
    (made / "index.html").write_text("hello")
    return made


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path / "releases")


def add(releases: Releases, output: Path, **limits: int) -> Path:
    """The files of the release that is made of `output`."""
    request = build_request("http://x.example/y")
    releases.add(request, output, Limits(**limits), lambda: None)
    return releases.files(request.deployment_id)


def refused(releases: Releases, output: Path, **limits: int) -> str:
    with pytest.raises(DeploymentError) as error:
        add(releases, output, **limits)
    assert error.value.code == ErrorCode.BUILD_FAILED
    assert not releases.root.exists() or list(releases.root.iterdir()) == []
    return error.value.message


def names(files: Path) -> list[str]:
    return sorted(str(path.relative_to(files)) for path in files.rglob("*") if path.is_file())


def test_files_are_copied_and_cannot_be_changed(releases: Releases, output: Path) -> None:
    (output / "a").mkdir()
    (output / "a" / "b.css").write_text("x")

    files = add(releases, output)
    (output / "index.html").write_text("changed later")

    assert names(files) == ["a/b.css", "index.html"]
    assert (files / "index.html").read_text() == "hello"
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.rglob("*")} == {0o444, 0o555}


def test_hidden_names_and_dependencies_stay_out(releases: Releases, output: Path) -> None:
    for name in (".git/config", ".env", "node_modules/x/y.js", ".well-known/security.txt", "a/.b/c"):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text("x")

    assert names(add(releases, output)) == [".well-known/security.txt", "index.html"]


def test_links_inside_are_copied_as_what_they_lead_to(releases: Releases, output: Path) -> None:
    (output / "pages").mkdir()
    (output / "pages" / "a.html").write_text("a")
    (output / "home.html").symlink_to("index.html")
    (output / "all").symlink_to(output / "pages")
    (output / "nowhere").symlink_to("missing")

    files = add(releases, output)

    assert names(files) == ["all/a.html", "home.html", "index.html", "pages/a.html"]
    assert not any(path.is_symlink() for path in files.rglob("*"))


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "../../../../etc/passwd", "/", "..", "/nowhere/at/all"])
def test_links_that_lead_out_are_refused(releases: Releases, output: Path, target: str) -> None:
    (output.parent / "secret").write_text("x")
    (output / "leak").symlink_to(target)

    assert "'leak' is a symbolic link that leads out" in refused(releases, output)


def test_a_link_to_a_directory_above_it_is_refused(releases: Releases, output: Path) -> None:
    (output / "a").mkdir()
    (output / "a" / "loop").symlink_to(output)

    assert "loop" in refused(releases, output)


def test_pipes_and_sockets_are_refused(releases: Releases, output: Path) -> None:
    os.mkfifo(output / "pipe")

    assert "'pipe' is no file" in refused(releases, output)

    (output / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(output / "socket"))
        assert "'socket' is no file" in refused(releases, output)


def test_number_and_size_have_limits(releases: Releases, output: Path) -> None:
    (output / "more").write_text("x" * 100)

    assert "more than 1 files" in refused(releases, output, output_files=1)
    assert "more than 50 bytes" in refused(releases, output, output_bytes=50)


def test_the_same_site_has_the_same_digest(releases: Releases, output: Path) -> None:
    request, again, other = (build_request("http://x.example/y") for _ in range(3))

    first = releases.add(request, output, Limits(), lambda: None)
    second = releases.add(again, output, Limits(), lambda: None)
    (output / "index.html").rename(output / "other.html")
    third = releases.add(other, output, Limits(), lambda: None)

    assert first.digest == second.digest != third.digest
    kept = releases.get(request.deployment_id)
    assert kept is not None
    assert (kept.digest, kept.files, kept.bytes) == (first.digest, 1, 5)
    assert len(releases.all()) == 3


def places(workspace: Path, *outputs: str, before: frozenset[str] = frozenset()) -> OutputPlaces:
    return OutputPlaces(Source(workspace), outputs, before, hint=None)


def test_the_configured_output_wins(output: Path) -> None:
    (output.parent / "custom").mkdir()

    assert places(output.parent, "dist").find("custom").name == "custom"


@pytest.mark.parametrize("path", ["../..", "/etc", "a/../../..", "~root"])
def test_an_output_outside_is_refused(output: Path, path: str) -> None:
    with pytest.raises(DeploymentError) as error:
        places(output.parent).find(path)

    assert error.value.code == ErrorCode.INVALID_REQUEST


def test_an_output_that_is_a_link_out_is_refused(output: Path) -> None:
    (output.parent / "leak").symlink_to("/etc")

    with pytest.raises(DeploymentError, match="leads out"):
        places(output.parent).find("leak")


def test_a_missing_output_lists_what_is_there(output: Path) -> None:
    with pytest.raises(DeploymentError, match="directories there: dist") as error:
        places(output.parent).find("build")

    assert error.value.code == ErrorCode.BUILD_FAILED


def test_what_a_build_has_made_comes_before_what_was_there(output: Path) -> None:
    workspace = output.parent
    before = frozenset(usual_sites(Source(workspace)))
    (workspace / "public").mkdir()
    (workspace / "public" / "index.html").write_text("new")

    assert places(workspace, before=before).find(None).name == "public"
    assert places(workspace, before=frozenset()).find(None).name == "dist"


def test_plain_files_are_the_repository_or_the_usual_place_inside(output: Path) -> None:
    workspace = output.parent

    assert places(workspace, ".", before=frozenset({"dist"})).find(None) == output
    (workspace / "index.html").write_text("home")
    assert places(workspace, ".", before=frozenset({"dist"})).find(None) == workspace
