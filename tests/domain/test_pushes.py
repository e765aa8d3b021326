"""Which push is the newest, and whose repository it is."""

import itertools

import pytest

from domain.pushes import Move, Newest, newest
from domain.source import branch_matches, repository_key


def test_in_any_order_of_arrival_the_last_of_a_chain_is_the_newest() -> None:
    for order in itertools.permutations(range(5)):
        moves = [Move(str(number), str(number + 1)) for number in order]
        assert newest(moves) == Newest(order.index(4))


def test_a_gap_is_not_certain_until_it_is_closed() -> None:
    first, second, third = Move("0", "1"), Move("1", "2"), Move("2", "3")
    assert newest([first, third]) == Newest(1, unsure_since=1)
    assert newest([third, first]) == Newest(1, unsure_since=1)
    assert newest([first, third, second]) == Newest(1)
    assert newest([third, first, second]) == Newest(0)


def test_where_the_sender_tells_the_time_a_gap_is_no_doubt() -> None:
    old, new = Move("0", "1", at=10), Move("5", "6", at=20)
    assert newest([old, new]) == Newest(1)
    assert newest([new, old]) == Newest(0)
    assert newest([old, Move("5", "6", at=10)]) == Newest(1, unsure_since=1)


def test_a_branch_may_go_back_and_forth_and_be_made_anew() -> None:
    there, back = Move("1", "2"), Move("2", "1")
    assert newest([there, back, there]) == Newest(2)
    assert newest([Move("0", "1"), Move("1", "0"), Move("0", "2")]) == Newest(2)
    with pytest.raises(ValueError, match="no pushes"):
        newest([])


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/shop",
        "https://github.com/acme/shop.git",
        "https://GitHub.com:443/Acme/Shop.git/",
        "http://ada@github.com/acme/shop.git",
        "ssh://git@github.com/acme/shop.git",
        "ssh://git@github.com:22/acme/shop",
        "git@github.com:acme/shop.git",
        "git://github.com/acme/shop.git",
    ],
)
def test_all_addresses_of_a_repository_have_one_key(url: str) -> None:
    assert repository_key(url) == "github.com/acme/shop"


def test_other_repositories_have_other_keys() -> None:
    keys = [
        repository_key("https://github.com/acme/shop2"),
        repository_key("https://git.example.org/acme/shop"),
        repository_key("https://github.com:8443/acme/shop"),
        repository_key("https://github.com/acme/shop.git.git"),
    ]
    assert len({*keys, "github.com/acme/shop"}) == 5
    assert repository_key("no address") is repository_key("file:///etc") is None


def test_a_star_stands_for_any_characters() -> None:
    assert branch_matches("main", ["next", "main"])
    assert branch_matches("release/1/2", ["release/*"])
    assert branch_matches("feature/x", ["*"])
    assert not branch_matches("Main", ["main"])
    assert not branch_matches("releases/1", ["release/*"])
    assert not branch_matches("main", [])
