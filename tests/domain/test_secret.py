"""Versions of secrets are counted by name, and a name that was unset goes on counting."""

from datetime import UTC, datetime

from domain.secret import CountedSecret, count, document, read_counts, uses, versions

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def numbers(counts: dict[str, CountedSecret]) -> dict[str, int]:
    return {name: one.version for name, one in versions(counts).items()}


def test_each_new_value_counts_and_the_same_value_does_not() -> None:
    counts: dict[str, CountedSecret] = {}
    secrets: dict[str, str] = {}
    for wanted, after in (
        ({"A": 1}, {"A": "x"}),
        ({"A": 1}, {"A": "x"}),
        ({"A": 2, "B": 1}, {"A": "y", "B": "x"}),
        ({"B": 1}, {"B": "x"}),
        ({"A": 3, "B": 1}, {"A": "y", "B": "x"}),
    ):
        counts, secrets = count(counts, secrets, after, "ada", NOW), after
        assert numbers(counts) == wanted


def test_who_and_when_are_those_of_the_change_alone() -> None:
    first = count({}, {}, {"A": "x", "B": "x"}, "ada", NOW)
    told = versions(count(first, {"A": "x", "B": "x"}, {"A": "y", "B": "x"}, "bob", NOW.replace(year=2027)))
    assert {name: (one.updated_by, one.updated_at and one.updated_at.year) for name, one in told.items()} == {
        "A": ("bob", 2027),
        "B": ("ada", 2026),
    }


def test_what_was_set_before_versions_were_counted_is_the_first() -> None:
    counts = read_counts({}, ["OLD"])
    assert versions(counts)["OLD"].updated_by is None
    assert numbers(count(counts, {"OLD": "x"}, {"OLD": "y"}, "ada", NOW)) == {"OLD": 2}
    assert uses("project", counts)["OLD"].model_dump() == {"scope": "project", "version": 1}


def test_what_is_stored_is_read_again() -> None:
    counts = count(count({}, {}, {"A": "x", "B": "x"}, "ada", NOW), {"A": "x", "B": "x"}, {"A": "x"}, "bob", NOW)
    assert read_counts(document(counts), []) == counts
