"""kafka-python 3 leaves the sockets of refused connections open, held by its own coroutines."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In this folder the collector may find such a socket at any time, and that is no failure."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(autouse=True)
def _what_clients_leave_open() -> Iterator[None]:
    """Close what is left: its warnings would be reported against whoever runs last."""
    before = _sockets()  # themselves, not their ids: those of sockets that go are given to new ones
    yield
    gc.collect()
    known = set(map(id, before))
    for left in _sockets():
        if id(left) not in known:
            left.close()


def _sockets() -> list[socket.socket]:
    # By type(): isinstance() would ask a weak proxy for the class of an object that may be gone.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), socket.socket)]
