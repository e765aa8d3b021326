"""Which Node.js is taken for what is asked."""

from pathlib import Path

import pytest

from domain.errors import DeploymentError, ErrorCode
from providers.internal.node import Node, Version, choose_node, installed_nodes, satisfies

NODES = [
    Node((18, 20, 4), Path("/a")),
    Node((20, 11, 0), Path("/b")),
    Node((20, 2, 1), Path("/c")),
    Node((22, 1, 0), Path("/d")),
]


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        ("20", (20, 11, 0)),
        ("v20", (20, 11, 0)),
        ("20.x", (20, 11, 0)),
        ("20.2", (20, 2, 1)),
        ("20.2.1", (20, 2, 1)),
        (">=18", (22, 1, 0)),
        (">=18 <21", (20, 11, 0)),
        ("^18.2.0", (18, 20, 4)),
        ("~20.2.0", (20, 2, 1)),
        ("<=20", (20, 11, 0)),
        (">20", (22, 1, 0)),
        ("<20", (18, 20, 4)),
        ("16 || 18", (18, 20, 4)),
        ("18 - 20", (20, 11, 0)),
        ("18.0.0 - 20.5.0", (20, 2, 1)),
        ("*", (22, 1, 0)),
        ("latest", (22, 1, 0)),
    ],
)
def test_the_newest_that_fits_is_taken(asked: str, version: Version) -> None:
    assert choose_node(asked, NODES).version == version


@pytest.mark.parametrize(
    "asked", ["16", "lts/iron", "lts/*", ">=23", "20.3", "banana", "20; rm -rf /", "^21", "--version"]
)
def test_what_is_not_installed_is_refused_with_what_is(asked: str) -> None:
    with pytest.raises(DeploymentError, match=r"installed: 22\.1\.0, 20\.11\.0, 20\.2\.1, 18\.20\.4") as refused:
        choose_node(asked, NODES)

    assert refused.value.code == ErrorCode.INVALID_REQUEST


def test_a_caret_below_one_holds_what_comes_first() -> None:
    assert satisfies((0, 2, 5), "^0.2.3")
    assert not satisfies((0, 3, 0), "^0.2.3")


def test_those_of_version_managers_are_found(tmp_path: Path) -> None:
    for place, version in ((".nvm/versions/node/v18.1.0", "v18.1.0"), (".volta/tools/image/node/20.2.0", "v20.2.0")):
        program = tmp_path / place / "bin" / "node"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)

    found = {str(node) for node in installed_nodes("", tmp_path)}

    assert {"18.1.0", "20.2.0"} <= found
