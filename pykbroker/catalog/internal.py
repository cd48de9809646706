"""Topics that the broker makes for itself, with the settings that Apache Kafka gives them."""

from __future__ import annotations

from collections.abc import Mapping

from pykbroker.catalog import placement
from pykbroker.catalog.changes import CreateTopic
from pykbroker.catalog.image import CONSUMER_OFFSETS, TRANSACTION_STATE, Image, new_topic_id
from pykbroker.catalog.ingress import FORWARD_SETTINGS, FORWARD_TOPIC
from pykbroker.catalog.retrying import REPLAY_TOPIC
from pykbroker.catalog.role_topics import FLOW_SETTINGS
from pykbroker.config import BrokerConfig


def internal_topic(config: BrokerConfig, image: Image, name: str) -> CreateTopic:
    """The change that makes the internal topic ``name``; any name that is not known is one compacted
    partition."""
    partitions = 1
    overrides: Mapping[str, str] = {"cleanup.policy": "compact"}
    if name == CONSUMER_OFFSETS:
        partitions = config.offsets_topic_num_partitions
        overrides = {
            "cleanup.policy": "compact",
            "compression.type": "producer",
            "segment.bytes": str(config.offsets_topic_segment_bytes),
        }
    elif name == TRANSACTION_STATE:
        partitions = config.transaction_state_log_num_partitions
        overrides = {
            "cleanup.policy": "compact",
            "compression.type": "uncompressed",
            "min.insync.replicas": str(config.transaction_state_log_min_isr),
            "segment.bytes": str(config.transaction_state_log_segment_bytes),
            "unclean.leader.election.enable": "false",
        }
    elif name == FORWARD_TOPIC:
        partitions, overrides = config.pykbroker_forward_num_partitions, FORWARD_SETTINGS
    elif name == REPLAY_TOPIC:
        partitions, overrides = config.pykbroker_forward_num_partitions, FLOW_SETTINGS
    replicas = placement.spread(partitions, 1, image.brokers)
    return CreateTopic(name=name, topic_id=new_topic_id(), replicas=replicas, overrides=overrides)
