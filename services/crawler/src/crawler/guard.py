"""The connection guard: no connection to an address that is not public, whatever name or literal led there."""

import errno
import ipaddress
import socket
from collections.abc import Collection

from aiohttp import AddrInfoType
from tallyho_addresses import is_public

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class PrivateAddressError(OSError):
    """The address is not one of the public internet."""

    def __init__(self) -> None:
        # One text for all addresses: connecting to several then fails with this very error, not with a merged OSError.
        super().__init__(errno.EACCES, "the address is not public")


def guarded_socket(addr_info: AddrInfoType, allowed: Collection[Network] = ()) -> socket.socket:
    """Make the socket for a connection to `addr_info`, or raise `PrivateAddressError`; `allowed` ones are exempt.

    As a socket factory it sees the very address that is connected to, after the resolver or without it.
    """
    family, kind, protocol, _, address = addr_info
    if not is_public(str(address[0])) and not _is_among(str(address[0]), allowed):
        raise PrivateAddressError
    return socket.socket(family, kind, protocol)


def _is_among(address: str, networks: Collection[Network]) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    return any(ip in network for network in networks)
