"""Ids as RFC 9562 lays them out."""

from datetime import UTC, datetime, timedelta

from domain.ids import made_at, uuid7


def test_an_id_is_a_uuid_of_version_seven() -> None:
    assert (uuid7().version, uuid7().variant) == (7, "specified in RFC 4122")


def test_ids_of_later_milliseconds_sort_later() -> None:
    ids = [uuid7() for _ in range(5000)]
    assert [made.int >> 80 for made in ids] == sorted(made.int >> 80 for made in ids)
    assert len(set(ids)) == len(ids)


def test_an_id_says_when_it_was_made_and_what_is_none_says_long_ago() -> None:
    before = datetime.now(UTC)
    assert timedelta(milliseconds=-1) <= made_at(str(uuid7())) - before < timedelta(seconds=5)

    for other in ("", "d1", "0b8a5a3e-1d2f-4c3b-9a4e-5f6a7b8c9d0e"):
        assert made_at(other) == datetime.fromtimestamp(0, UTC)
