"""A broker inside a test: pytest fixtures, a broker in a thread or in a process of its own.

The pytest plugin (:mod:`pykbroker.testing.plugin`) is found by itself where pykbroker is installed::

    def test_orders(pykbroker):
        producer = KafkaProducer(bootstrap_servers=pykbroker.bootstrap)

Outside pytest, both brokers are context managers::

    with BrokerThread() as broker:
        ...  # broker.bootstrap is "127.0.0.1:<port>"
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pykbroker.testing.process import BrokerProcess as BrokerProcess
    from pykbroker.testing.thread import BrokerThread as BrokerThread

__all__ = ["BrokerProcess", "BrokerThread"]

_HOME = {"BrokerProcess": "pykbroker.testing.process", "BrokerThread": "pykbroker.testing.thread"}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
