"""Loopback ports that are still ours after a restart."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"

# Below every system's range for outgoing connections: while a part is down, nothing that merely connects
# somewhere can be given its port, and no client that retries the port can end up connected to itself.
_FIRST, _LAST = 15_000, 32_000
_TRIES = 200


def free_port() -> int:
    """A port nobody listens on now, which the system will not hand out by itself."""
    for _ in range(_TRIES):
        port = random.randrange(_FIRST, _LAST)
        if port_is_free(port):
            return port
    raise OSError(f"no free loopback port between {_FIRST} and {_LAST} in {_TRIES} tries")


def port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def split_address(address: str) -> tuple[str, int]:
    """`host:port` apart; raises ValueError for anything else."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit():
        raise ValueError(f"not host:port: {address!r}")
    return host, int(port)
