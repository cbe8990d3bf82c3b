"""Ports for servers of this machine, which nobody else takes."""

import secrets
import socket
from contextlib import suppress
from pathlib import Path


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody had a moment ago; `hold_port` says of which kind."""
    with hold_port() as holder:
        return port_of(holder)


def hold_port() -> socket.socket:
    """Return a socket that keeps a free port of 127.0.0.1 from others until it is closed.

    A server of ours can listen there: binding is exclusive at first, so that two who look for a port at the same time
    get different ones; then whoever sets SO_REUSEADDR, as servers do, may bind it as well, again after each restart.
    The port is below those that the kernel gives to outgoing connections: while a server restarts, a client's
    connection could take one of those, even one to itself.
    """
    holder = socket.socket()
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    below = range(max(1024, min(20_000, first_ephemeral - 5_000)), first_ephemeral)
    choice = below if len(below) >= 1000 else range(20_000, 32_000)
    while True:
        with suppress(OSError):
            holder.bind(("127.0.0.1", secrets.choice(choice)))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            return holder


def port_of(holder: socket.socket) -> int:
    """Return the port that it holds."""
    port: int = holder.getsockname()[1]
    return port


def is_free(port: int) -> bool:
    """Tell whether nobody listens on that port of 127.0.0.1."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
