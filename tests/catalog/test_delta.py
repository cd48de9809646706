"""Deltas: what subscribers hear."""

from __future__ import annotations

from pykbroker.catalog.changes import (
    AddPartitions,
    Change,
    CreateTopic,
    DeleteTopic,
    Elect,
    SetSettings,
    SetTopicConfig,
)
from pykbroker.catalog.delta import Delta
from pykbroker.catalog.image import BROKER, GROUP
from pykbroker.catalog.memory import MemoryCatalog

CREATE = CreateTopic(name="a", topic_id=b"\x01" * 16, replicas=((1,),))
AGAIN = CreateTopic(name="a", topic_id=b"\x02" * 16, replicas=((1,),))
DELETE = DeleteTopic(name="a", topic_id=b"\x01" * 16)


def heard(catalog: MemoryCatalog, *changes: Change) -> Delta:
    deltas: list[Delta] = []
    cancel = catalog.subscribe(deltas.append)
    catalog.propose_nowait(changes)
    cancel()
    (delta,) = deltas
    assert delta.after is catalog.image
    return delta


def test_creation_growth_election_settings_deletion() -> None:
    catalog = MemoryCatalog()
    assert [topic.name for topic in heard(catalog, CREATE).created] == ["a"]
    grown = heard(catalog, AddPartitions(name="a", version=0, replicas=((1,),)))
    assert [len(topic.partitions) for topic in grown.changed] == [2]
    assert (grown.created, grown.deleted, grown.reconfigured) == ((), (), ())
    elected = heard(catalog, Elect(node_id=1))
    assert [topic.partitions[0].leader_epoch for topic in elected.changed] == [1]
    altered = heard(catalog, SetTopicConfig(name="a", version=0, overrides={"segment.ms": "1"}))
    assert [dict(topic.overrides) for topic in altered.reconfigured] == [{"segment.ms": "1"}]
    assert altered.changed == ()
    (deleted,) = heard(catalog, DELETE).deleted
    assert len(deleted.partitions) == 2


def test_deleted_and_created_again_is_both() -> None:
    catalog = MemoryCatalog()
    heard(catalog, CREATE)
    delta = heard(catalog, DELETE, AGAIN)
    assert [topic.topic_id[0] for topic in delta.deleted] == [1]
    assert [topic.topic_id[0] for topic in delta.created] == [2]
    assert delta.changed == ()


def test_settings_of_brokers_and_groups() -> None:
    catalog = MemoryCatalog()
    values = {"log.segment.bytes": "99"}
    delta = heard(catalog, SetSettings(resource_type=BROKER, name="", version=0, values=values))
    assert (delta.broker_settings, delta.groups) == (True, ())
    assert catalog.broker_config.log_segment_bytes == 99
    other = SetSettings(resource_type=BROKER, name="2", version=0, values={"log.segment.bytes": "98"})
    heard(catalog, other)
    assert catalog.broker_config.log_segment_bytes == 99
    values = {"consumer.session.timeout.ms": "46000"}
    delta = heard(catalog, SetSettings(resource_type=GROUP, name="g", version=0, values=values))
    assert (delta.broker_settings, delta.groups) == (False, ("g",))
