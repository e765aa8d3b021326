"""Ids as RFC 9562 lays them out."""

from domain.ids import uuid7


def test_an_id_is_a_uuid_of_version_seven() -> None:
    assert (uuid7().version, uuid7().variant) == (7, "specified in RFC 4122")


def test_ids_of_later_milliseconds_sort_later() -> None:
    ids = [uuid7() for _ in range(5000)]
    assert [made.int >> 80 for made in ids] == sorted(made.int >> 80 for made in ids)
    assert len(set(ids)) == len(ids)
