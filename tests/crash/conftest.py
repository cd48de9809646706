"""kafka-python 3 leaves the sockets of refused connections open, held by its own coroutines."""

from __future__ import annotations

import gc
import socket
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _what_clients_leave_open() -> Iterator[None]:
    """Close them here: their warnings would be reported against whoever runs last."""
    before = set(map(id, _sockets()))
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    for left in _sockets():
        if id(left) not in before:
            left.close()


def _sockets() -> list[socket.socket]:
    # By type(): isinstance() would ask a weak proxy for the class of an object that may be gone.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), socket.socket)]
