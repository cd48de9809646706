"""The settings of broker, topics and groups: typed, documented, checked, from one table each."""

from pykbroker.config.broker import BrokerConfig, Endpoint
from pykbroker.config.group import GroupConfig
from pykbroker.config.setting import ConfigError, Kind, Setting, settings_of
from pykbroker.config.topic import TopicConfig

__all__ = [
    "BrokerConfig",
    "ConfigError",
    "Endpoint",
    "GroupConfig",
    "Kind",
    "Setting",
    "TopicConfig",
    "settings_of",
]
