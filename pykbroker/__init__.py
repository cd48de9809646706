"""pykbroker: a Kafka-API-compatible message broker, written as a framework.

The public names, which are all that a plugin needs; each is imported when it is first used::

    from pykbroker import Component, PartitionContext, hookimpl
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pykbroker._version import __version__

if TYPE_CHECKING:
    from pykbroker.broker import Broker as Broker
    from pykbroker.components import BatchView as BatchView
    from pykbroker.components import Binding as Binding
    from pykbroker.components import BuildContext as BuildContext
    from pykbroker.components import Component as Component
    from pykbroker.components import ConfigPolicy as ConfigPolicy
    from pykbroker.components import ConfigPolicyContext as ConfigPolicyContext
    from pykbroker.components import DeadLetter as DeadLetter
    from pykbroker.components import Discard as Discard
    from pykbroker.components import ExchangeType as ExchangeType
    from pykbroker.components import Headers as Headers
    from pykbroker.components import InterceptContext as InterceptContext
    from pykbroker.components import Interceptor as Interceptor
    from pykbroker.components import Matcher as Matcher
    from pykbroker.components import PartitionContext as PartitionContext
    from pykbroker.components import Partitioner as Partitioner
    from pykbroker.components import PluginSetting as PluginSetting
    from pykbroker.components import PolicyViolation as PolicyViolation
    from pykbroker.components import RecordError as RecordError
    from pykbroker.components import Retry as Retry
    from pykbroker.components import RetryContext as RetryContext
    from pykbroker.components import RetryDecision as RetryDecision
    from pykbroker.components import RetryPolicy as RetryPolicy
    from pykbroker.components import RoutingContext as RoutingContext
    from pykbroker.components import Service as Service
    from pykbroker.components import ServiceContext as ServiceContext
    from pykbroker.components import Settings as Settings
    from pykbroker.components import TopicPolicy as TopicPolicy
    from pykbroker.components import TopicPolicyContext as TopicPolicyContext
    from pykbroker.components import ValidationContext as ValidationContext
    from pykbroker.components import Validator as Validator
    from pykbroker.config import BrokerConfig as BrokerConfig
    from pykbroker.config import ConfigError as ConfigError
    from pykbroker.config import Kind as Kind
    from pykbroker.errors import ErrorCode as ErrorCode
    from pykbroker.errors import KafkaError as KafkaError
    from pykbroker.events import BrokerStarted as BrokerStarted
    from pykbroker.events import BrokerStopping as BrokerStopping
    from pykbroker.events import ConnectionChanged as ConnectionChanged
    from pykbroker.events import GroupChanged as GroupChanged
    from pykbroker.events import NackSkipped as NackSkipped
    from pykbroker.events import RecordDeadLettered as RecordDeadLettered
    from pykbroker.events import RecordReplayed as RecordReplayed
    from pykbroker.events import RecordRetried as RecordRetried
    from pykbroker.events import RecordsAppended as RecordsAppended
    from pykbroker.events import RecordUnroutable as RecordUnroutable
    from pykbroker.events import TopicChanged as TopicChanged
    from pykbroker.hookspecs import hookimpl as hookimpl
    from pykbroker.records.batch import BatchHeader as BatchHeader
    from pykbroker.records.build import RecordData as RecordData
    from pykbroker.records.decode import Record as Record

__all__ = [
    "BatchHeader",
    "BatchView",
    "Binding",
    "Broker",
    "BrokerConfig",
    "BrokerStarted",
    "BrokerStopping",
    "BuildContext",
    "Component",
    "ConfigError",
    "ConfigPolicy",
    "ConfigPolicyContext",
    "ConnectionChanged",
    "DeadLetter",
    "Discard",
    "ErrorCode",
    "ExchangeType",
    "GroupChanged",
    "Headers",
    "InterceptContext",
    "Interceptor",
    "KafkaError",
    "Kind",
    "Matcher",
    "NackSkipped",
    "PartitionContext",
    "Partitioner",
    "PluginSetting",
    "PolicyViolation",
    "Record",
    "RecordData",
    "RecordDeadLettered",
    "RecordError",
    "RecordReplayed",
    "RecordRetried",
    "RecordUnroutable",
    "RecordsAppended",
    "Retry",
    "RetryContext",
    "RetryDecision",
    "RetryPolicy",
    "RoutingContext",
    "Service",
    "ServiceContext",
    "Settings",
    "TopicChanged",
    "TopicPolicy",
    "TopicPolicyContext",
    "ValidationContext",
    "Validator",
    "__version__",
    "hookimpl",
]

_HOME = {
    "pykbroker.broker": ("Broker",),
    "pykbroker.components": (
        "BatchView",
        "Binding",
        "BuildContext",
        "Component",
        "ConfigPolicy",
        "ConfigPolicyContext",
        "DeadLetter",
        "Discard",
        "ExchangeType",
        "Headers",
        "InterceptContext",
        "Interceptor",
        "Matcher",
        "PartitionContext",
        "Partitioner",
        "PluginSetting",
        "PolicyViolation",
        "RecordError",
        "Retry",
        "RetryContext",
        "RetryDecision",
        "RetryPolicy",
        "RoutingContext",
        "Service",
        "ServiceContext",
        "Settings",
        "TopicPolicy",
        "TopicPolicyContext",
        "ValidationContext",
        "Validator",
    ),
    "pykbroker.config": (
        "BrokerConfig",
        "ConfigError",
        "Kind",
    ),
    "pykbroker.errors": (
        "ErrorCode",
        "KafkaError",
    ),
    "pykbroker.events": (
        "BrokerStarted",
        "BrokerStopping",
        "ConnectionChanged",
        "GroupChanged",
        "NackSkipped",
        "RecordDeadLettered",
        "RecordReplayed",
        "RecordRetried",
        "RecordUnroutable",
        "RecordsAppended",
        "TopicChanged",
    ),
    "pykbroker.hookspecs": ("hookimpl",),
    "pykbroker.records.batch": ("BatchHeader",),
    "pykbroker.records.build": ("RecordData",),
    "pykbroker.records.decode": ("Record",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
