"""A broker inside a test: pytest fixtures, a broker in a thread or in a process of its own.

The pytest plugin (:mod:`pykbroker.testing.plugin`) is found by itself where pykbroker is installed::

    def test_orders(pykbroker):
        producer = KafkaProducer(bootstrap_servers=pykbroker.bootstrap)

Outside pytest, both brokers are context managers::

    with BrokerThread() as broker:
        ...  # broker.bootstrap is "127.0.0.1:<port>"

For those who write plugins, :mod:`pykbroker.testing.kits` checks what every plugin must do::

    def test_conformance() -> None:
        check_plugin(my_plugin)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pykbroker.testing.kits import KitFailure as KitFailure
    from pykbroker.testing.kits import check_command as check_command
    from pykbroker.testing.kits import check_config_policy as check_config_policy
    from pykbroker.testing.kits import check_exchange_type as check_exchange_type
    from pykbroker.testing.kits import check_interceptor as check_interceptor
    from pykbroker.testing.kits import check_partitioner as check_partitioner
    from pykbroker.testing.kits import check_plugin as check_plugin
    from pykbroker.testing.kits import check_retry_policy as check_retry_policy
    from pykbroker.testing.kits import check_service as check_service
    from pykbroker.testing.kits import check_topic_policy as check_topic_policy
    from pykbroker.testing.kits import check_validator as check_validator
    from pykbroker.testing.kits import retry_context as retry_context
    from pykbroker.testing.process import BrokerProcess as BrokerProcess
    from pykbroker.testing.thread import BrokerThread as BrokerThread

_KITS = (
    "KitFailure",
    "check_command",
    "check_config_policy",
    "check_exchange_type",
    "check_interceptor",
    "check_partitioner",
    "check_plugin",
    "check_retry_policy",
    "check_service",
    "check_topic_policy",
    "check_validator",
    "retry_context",
)
__all__ = [
    "BrokerProcess",
    "BrokerThread",
    "KitFailure",
    "check_command",
    "check_config_policy",
    "check_exchange_type",
    "check_interceptor",
    "check_partitioner",
    "check_plugin",
    "check_retry_policy",
    "check_service",
    "check_topic_policy",
    "check_validator",
    "retry_context",
]

_HOME = {
    "BrokerProcess": "pykbroker.testing.process",
    "BrokerThread": "pykbroker.testing.thread",
    **dict.fromkeys(_KITS, "pykbroker.testing.kits"),
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
