"""pykbroker: a Kafka-API-compatible message broker, written as a framework.

The public names; each is imported when it is first used::

    from pykbroker import Broker, BrokerConfig
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pykbroker._version import __version__

if TYPE_CHECKING:
    from pykbroker.broker import Broker as Broker
    from pykbroker.config import BrokerConfig as BrokerConfig
    from pykbroker.config import ConfigError as ConfigError
    from pykbroker.errors import ErrorCode as ErrorCode
    from pykbroker.errors import KafkaError as KafkaError

__all__ = ["Broker", "BrokerConfig", "ConfigError", "ErrorCode", "KafkaError", "__version__"]

_HOME = {
    "Broker": "pykbroker.broker",
    "BrokerConfig": "pykbroker.config",
    "ConfigError": "pykbroker.config",
    "ErrorCode": "pykbroker.errors",
    "KafkaError": "pykbroker.errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
