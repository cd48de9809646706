"""What the plugins' tests share: the fixtures of pykbroker.testing, and what clients leave open."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Load what the entry point of an installed pykbroker loads, where it is only on the path."""
    if not config.pluginmanager.has_plugin("pykbroker"):
        from pykbroker.testing import plugin

        config.pluginmanager.register(plugin, "pykbroker")


@pytest.fixture(autouse=True)
def _what_clients_leave_open() -> Iterator[None]:
    """kafka-python leaves sockets of failed connection attempts to the garbage collector."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
