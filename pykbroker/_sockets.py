"""Sockets to listen on: bound early, so that a start fails before recovery when a port is taken."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from pykbroker.config import Endpoint

WILDCARDS = frozenset({"", "0.0.0.0", "::"})
"""Hosts that mean all interfaces; no client can be told to connect to one."""


def bind(endpoint: Endpoint) -> tuple[Endpoint, list[socket.socket]]:
    """Bind every address of the endpoint's host (``localhost`` may have two), not yet listening.

    Returns the endpoint with its real port.  Raises :class:`OSError` when the first address cannot be
    bound; another that cannot is left out (IPv6 is turned off on many machines).
    """
    sockets: list[socket.socket] = []
    port = endpoint.port
    for family, address in _addresses(endpoint.host):
        try:
            sock = _bind(family, address, port)
        except OSError:
            if not sockets:
                raise
            continue
        port = sock.getsockname()[1]
        sockets.append(sock)
    return Endpoint(endpoint.name, endpoint.host, port), sockets


def _addresses(host: str) -> Sequence[tuple[socket.AddressFamily, str]]:
    if host == "":
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    inet = {socket.AF_INET, socket.AF_INET6}
    # IPv4 first: it is what nearly every client tries, and what must not fail.
    unique = {(family, str(address[0])): None for family, _, _, _, address in found if family in inet}
    if not unique:
        raise OSError(errno.EADDRNOTAVAIL, "no IPv4 or IPv6 address")
    return sorted(unique, key=lambda entry: entry[0] != socket.AF_INET)


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restarted broker takes its port back from connections in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def text(endpoint: Endpoint) -> str:
    """``host:port`` as clients take it; an IPv6 address in brackets."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"
