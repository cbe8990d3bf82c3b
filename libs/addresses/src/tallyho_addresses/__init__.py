"""Tells addresses of the public internet from all others, for whoever connects to hosts that strangers name.

`ipaddress.is_global` alone is not enough: it passes multicast, anycast relays and IPv6 forms that carry a private IPv4
address, and its tables differ between Python releases.
"""

import ipaddress
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

_IPV4_REFUSED = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments, some of them answered by the local gateway
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv4Network("168.63.129.16/32"),  # a public address on paper; inside Azure, its platform answers there
)
_IPV6_UNICAST = IPv6Network("2000::/3")  # all that is globally routed; mapped, compatible, site-local lie outside
_IPV6_REFUSED = (
    IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("3fff::/20"),  # documentation
)
_NAT64 = IPv6Network("64:ff9b::/96")
_LOW_32_BITS = 0xFFFFFFFF


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet; what is no IP address does not.

    An IPv6 address that stands for an IPv4 address (mapped, NAT64, 6to4) is judged by that.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv4Address):
        return _is_public_ipv4(ip)
    carried = _carried_ipv4(ip)
    if carried is not None:
        return _is_public_ipv4(carried)
    return ip in _IPV6_UNICAST and ip.is_global and not any(ip in network for network in _IPV6_REFUSED)


def is_public_host(host: str) -> bool | None:
    """Whether the host of a URL is public, or None when that takes a look into the DNS.

    An IPv6 address may stand in brackets; an IPv4 address in any form that a resolver takes (`127.1`, `0x7f000001`).
    """
    name = host.removeprefix("[").removesuffix("]").removesuffix(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return False
    if ":" in name:
        return is_public(name)
    try:
        return is_public(socket.inet_ntoa(socket.inet_aton(name)))
    except (OSError, UnicodeError):
        return None


def _is_public_ipv4(ip: IPv4Address) -> bool:
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _IPV4_REFUSED)


def _carried_ipv4(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & _LOW_32_BITS)
    return ip.ipv4_mapped or ip.sixtofour
