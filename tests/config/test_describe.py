"""What DescribeConfigs says, held to what Apache Kafka 4.3.1 said."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pykbroker.config import BrokerConfig, ConfigError, GroupConfig, TopicConfig, settings_of
from pykbroker.config.describe import (
    Entry,
    Source,
    describe_all_brokers,
    describe_broker,
    describe_group,
    describe_topic,
)
from pykbroker.config.topic import check_topic_overrides

LONG_MAX = "9223372036854775807"

KAFKA_TOPIC = {
    "cleanup.policy": ("delete", 7, "log.cleanup.policy"),
    "compression.gzip.level": ("-1", 3, "compression.gzip.level"),
    "compression.lz4.level": ("9", 3, "compression.lz4.level"),
    "compression.type": ("producer", 2, "compression.type"),
    "compression.zstd.level": ("3", 3, "compression.zstd.level"),
    "delete.retention.ms": ("86400000", 5, "log.cleaner.delete.retention.ms"),
    "file.delete.delay.ms": ("60000", 5, "log.segment.delete.delay.ms"),
    "flush.messages": (LONG_MAX, 5, "log.flush.interval.messages"),
    "flush.ms": (LONG_MAX, 5, None),
    "follower.replication.throttled.replicas": ("", 7, None),
    "index.interval.bytes": ("4096", 3, "log.index.interval.bytes"),
    "leader.replication.throttled.replicas": ("", 7, None),
    "local.retention.bytes": ("-2", 5, "log.local.retention.bytes"),
    "local.retention.ms": ("-2", 5, "log.local.retention.ms"),
    "max.compaction.lag.ms": (LONG_MAX, 5, "log.cleaner.max.compaction.lag.ms"),
    "max.message.bytes": ("1048588", 3, "message.max.bytes"),
    "message.timestamp.after.max.ms": ("3600000", 5, "log.message.timestamp.after.max.ms"),
    "message.timestamp.before.max.ms": (LONG_MAX, 5, "log.message.timestamp.before.max.ms"),
    "message.timestamp.type": ("CreateTime", 2, "log.message.timestamp.type"),
    "min.cleanable.dirty.ratio": ("0.5", 6, "log.cleaner.min.cleanable.ratio"),
    "min.compaction.lag.ms": ("0", 5, "log.cleaner.min.compaction.lag.ms"),
    "min.insync.replicas": ("1", 3, "min.insync.replicas"),
    "preallocate": ("false", 1, "log.preallocate"),
    "remote.log.copy.disable": ("false", 1, None),
    "remote.log.delete.on.disable": ("false", 1, None),
    "remote.storage.enable": ("false", 1, None),
    "retention.bytes": ("-1", 5, "log.retention.bytes"),
    "retention.ms": ("604800000", 5, None),
    "segment.bytes": ("1073741824", 3, "log.segment.bytes"),
    "segment.index.bytes": ("10485760", 3, "log.index.size.max.bytes"),
    "segment.jitter.ms": ("0", 5, None),
    "segment.ms": ("604800000", 5, None),
    "unclean.leader.election.enable": ("false", 1, "unclean.leader.election.enable"),
}
"""Value, type, and the only synonym (default) of each topic setting, as Kafka 4.3.1 described them."""


def by_name(entries: Iterable[Entry]) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries}


def test_topic_defaults_are_kafkas() -> None:
    entries = by_name(describe_topic(BrokerConfig(), {}))
    ours = {
        name: (entry.value, entry.setting.kind.wire, entry.synonyms[0].name if entry.synonyms else None)
        for name, entry in entries.items()
        if not name.startswith("pykbroker.")
    }
    assert ours == KAFKA_TOPIC
    assert {entry.source for entry in entries.values()} == {Source.DEFAULT}


def test_an_override_comes_first_and_keeps_its_text() -> None:
    entry = by_name(describe_topic(BrokerConfig(), {"cleanup.policy": "delete,compact"}))["cleanup.policy"]
    assert (entry.value, entry.source) == ("delete,compact", Source.TOPIC)
    assert [(s.name, s.source) for s in entry.synonyms] == [
        ("cleanup.policy", Source.TOPIC),
        ("log.cleanup.policy", Source.DEFAULT),
    ]


def test_units_are_chained_as_in_kafka() -> None:
    def retention(**texts: str) -> tuple[str | None, int]:
        broker = BrokerConfig.from_texts({k.replace("_", "."): v for k, v in texts.items()})
        entry = by_name(describe_topic(broker, {}))["retention.ms"]
        return entry.value, entry.source

    assert retention(log_retention_hours="1") == ("3600000", Source.DEFAULT)
    assert retention(log_retention_hours="1", log_retention_minutes="2") == ("120000", Source.DEFAULT)
    assert retention(log_retention_minutes="2", log_retention_ms="3") == ("3", Source.STATIC_BROKER)
    assert retention(log_retention_hours="-1") == ("-1", Source.DEFAULT)


def test_layers_of_a_broker_setting() -> None:
    base = BrokerConfig.from_texts({"log.segment.bytes": "100"})
    broker = base.with_dynamic({"log.segment.bytes": "200"}, {"log.segment.bytes": "300"})
    entry = by_name(describe_broker(broker))["log.segment.bytes"]
    assert [(s.value, s.source) for s in entry.synonyms] == [
        ("300", Source.DYNAMIC_BROKER),
        ("200", Source.DYNAMIC_DEFAULT_BROKER),
        ("100", Source.STATIC_BROKER),
        ("1073741824", Source.DEFAULT),
    ]
    assert (entry.value, entry.read_only) == ("300", False)
    assert TopicConfig.from_overrides(broker, {}).segment_bytes == 300
    assert by_name(describe_broker(broker))["node.id"].read_only
    (default,) = describe_all_brokers({"log.segment.bytes": "200"})
    assert (default.value, default.source) == ("200", Source.DYNAMIC_DEFAULT_BROKER)


def test_groups_have_kafkas_17_and_ours() -> None:
    entries = by_name(describe_group({"share.delivery.count.limit": "7"}))
    assert entries.keys() == settings_of(GroupConfig).keys()
    assert len([name for name in entries if not name.startswith("pykbroker.")]) == 17
    assert entries["share.delivery.count.limit"].source == Source.GROUP
    session = entries["consumer.session.timeout.ms"]
    assert (session.value, session.synonyms[0].name) == ("45000", "group.consumer.session.timeout.ms")


def test_what_a_topic_may_not_have() -> None:
    for overrides, text in [
        ({"retention.mss": "1"}, "did you mean retention.ms?"),
        ({"retention.ms": "soon"}, "an integer from -1"),
        ({"min.compaction.lag.ms": "5", "max.compaction.lag.ms": "4"}, "must not be above"),
        ({"remote.storage.enable": "true"}, "no tiered storage"),
        ({"compression.gzip.level": "0"}, "-1 or"),
        ({"leader.replication.throttled.replicas": "a"}, "partition:broker"),
    ]:
        with pytest.raises(ConfigError) as caught:
            check_topic_overrides(BrokerConfig(), overrides)
        assert text in str(caught.value)


def test_defaults_of_tables_are_values_that_the_tables_allow() -> None:
    for cls in (BrokerConfig, TopicConfig, GroupConfig):
        for row in settings_of(cls).values():
            text = row.render(row.default)
            assert text is None or row.parse(text) == row.default
            assert row.doc
