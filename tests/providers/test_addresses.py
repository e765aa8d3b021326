"""The guard for addresses that users set: every spelling of a private one is refused."""

from ipaddress import ip_address

import pytest

from domain.errors import DeploymentError, ErrorCode
from providers.addresses import check_host, is_public

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "240.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd12::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "2002:7f00:1::",
    "2002:a00:1::",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "::7f00:1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0",
    "localhost",
    "LOCALHOST",
    "::1",
    "::ffff:127.0.0.1",
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "10.0.0.1",
    "fe80::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_on_the_public_internet_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("host", SPELLINGS)
def test_every_spelling_of_a_private_address_is_refused(host: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        check_host(host, 80, allow_private=False)

    assert refused.value.code == ErrorCode.INVALID_REQUEST


def test_an_explicit_setting_allows_them() -> None:
    assert check_host("127.0.0.1", 80, allow_private=True) == [ip_address("127.0.0.1")]


@pytest.mark.parametrize("host", ["does-not-exist.invalid", "a" * 64 + ".example", "\udcff", ""])
def test_a_host_that_does_not_resolve_may_do_so_later(host: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        check_host(host, 80, allow_private=False)

    assert refused.value.code in {ErrorCode.PROVIDER_ERROR, ErrorCode.INVALID_REQUEST}
