"""Binding before listening."""

from __future__ import annotations

import socket

import pytest

from pykbroker import _sockets
from pykbroker.config import Endpoint


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_port_0_becomes_a_real_one_and_the_same_for_all_addresses() -> None:
    endpoint, sockets = _sockets.bind(Endpoint("PLAINTEXT", "localhost", 0))
    assert endpoint.host == "localhost"
    assert {sock.getsockname()[1] for sock in sockets} == {endpoint.port}
    assert sockets[0].family is socket.AF_INET
    close(sockets)


def test_a_taken_port_is_an_error() -> None:
    endpoint, sockets = _sockets.bind(Endpoint("PLAINTEXT", "127.0.0.1", 0))
    sockets[0].listen()
    with pytest.raises(OSError, match="in use"):
        _sockets.bind(endpoint)
    close(sockets)


def test_an_empty_host_is_all_interfaces() -> None:
    _, sockets = _sockets.bind(Endpoint("PLAINTEXT", "", 0))
    assert sockets[0].getsockname()[0] == "0.0.0.0"
    close(sockets)


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(OSError):  # noqa: PT011  # the text is the resolver's
        _sockets.bind(Endpoint("PLAINTEXT", "no-such-host.invalid", 0))


@pytest.mark.parametrize(("host", "shown"), [("localhost", "localhost:9"), ("::1", "[::1]:9")])
def test_text(host: str, shown: str) -> None:
    assert _sockets.text(Endpoint("PLAINTEXT", host, 9)) == shown
