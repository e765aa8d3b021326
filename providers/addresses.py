"""The one guard for addresses that a user can set: resolves a host, refuses what is not public, gives what was checked.

Rule: whoever connects afterwards connects to an address that came from here, not to the name; a second look-up could
answer differently (DNS rebinding).
"""

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from domain.errors import DeploymentError, ErrorCode

Address = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether it is reached over the public internet. An IPv4 address inside an IPv6 one counts as itself."""
    inner = _embedded(address)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def check_host(host: str, port: int, *, allow_private: bool) -> list[Address]:
    """The addresses of `host`, every one of them allowed. Blocks while it resolves.

    Raises:
        DeploymentError: invalid-request for one that is not public, provider-error when nothing resolves.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: a label that IDNA cannot write
        raise DeploymentError(ErrorCode.PROVIDER_ERROR, f"the host {host[:253]!r} has no address") from None
    addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    refused = [address for address in addresses if not is_public(address)]
    if refused and not allow_private:
        raise DeploymentError(
            ErrorCode.INVALID_REQUEST,
            f"the host {host[:253]!r} leads to {refused[0]}, which is not a public address; "
            "accepted are hosts whose addresses are all public",
        )
    return list(dict.fromkeys(addresses))


def _embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that a v4-mapped, 6to4, Teredo or NAT64 address stands for."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
