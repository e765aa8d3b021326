"""How the environments of branches are called: labels of a host, short, and told apart."""

import re

import pytest

from domain.previews import preview_names


@pytest.mark.parametrize(
    ("branch", "name"),
    [
        ("feature/x", "preview-feature-x"),
        ("Feature/ÜBER_Log-In.2", "preview-feature-ber-log-in-2"),
        ("-/x/-", "preview-x"),
        ("main", "preview-main"),
    ],
)
def test_a_short_branch_is_read_in_the_name(branch: str, name: str) -> None:
    assert preview_names(branch)[0] == name


@pytest.mark.parametrize("branch", ["x" * 41, "feature/" + "long-" * 40, "главная", "日本語", "/" * 3, "a" * 255])
def test_a_long_or_foreign_branch_gets_a_digest_that_tells_it_apart(branch: str) -> None:
    plain, distinct = preview_names(branch)
    assert plain == distinct
    assert preview_names(branch + "y")[0] != plain


@pytest.mark.parametrize("branch", ["feature/x", "x" * 40, "x" * 31 + "/yyyy", "a/b" * 80, "é", "---"])
def test_every_name_is_a_label_of_a_host(branch: str) -> None:
    for name in preview_names(branch):
        assert re.fullmatch(r"preview-[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", name)


def test_branches_that_read_alike_have_distinct_second_names() -> None:
    one, other = preview_names("feature/x"), preview_names("feature-x")
    assert one[0] == other[0]
    assert one[1] != other[1]
