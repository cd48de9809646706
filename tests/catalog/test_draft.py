"""Drafts: versions, all or nothing, elections."""

from __future__ import annotations

import pytest

from pykbroker.catalog.changes import (
    AddPartitions,
    Change,
    Conflict,
    CreateTopic,
    DeleteTopic,
    Elect,
    SetPartition,
    SetSettings,
    SetTopicConfig,
    TakeProducerIds,
)
from pykbroker.catalog.draft import Draft
from pykbroker.catalog.image import BROKER, Image, PartitionState

ID, OTHER_ID = b"\x01" * 16, b"\x02" * 16
CREATE = CreateTopic(name="a", topic_id=ID, replicas=((1, 2), (2, 1)))


def after(*changes: Change, image: Image | None = None) -> Image:
    draft = Draft(image or Image(cluster_id="c"))
    for change in changes:
        draft.apply(change)
    return draft.finish()


BEFORE = after(CREATE)


@pytest.mark.parametrize(
    "change",
    [
        CREATE,
        CreateTopic(name="b", topic_id=ID, replicas=((1,),)),
        DeleteTopic(name="a", topic_id=OTHER_ID),
        DeleteTopic(name="b", topic_id=ID),
        AddPartitions(name="a", version=1, replicas=((1,),)),
        SetTopicConfig(name="a", version=1, overrides={}),
        SetTopicConfig(name="b", version=0, overrides={}),
        SetSettings(resource_type=BROKER, name="1", version=1, values={}),
        SetPartition(name="a", version=1, state=PartitionState(index=0, replicas=(1,), isr=(1,), leader=1)),
        SetPartition(name="a", version=0, state=PartitionState(index=2, replicas=(1,), isr=(1,), leader=1)),
        TakeProducerIds(first=1, count=1),
    ],
)
def test_what_was_decided_on_something_else_is_a_conflict(change: Change) -> None:
    draft = Draft(BEFORE)
    with pytest.raises(Conflict):
        draft.apply(change)
    assert draft.finish() == BEFORE


def test_the_image_before_stays_as_it_is() -> None:
    image = after(DeleteTopic(name="a", topic_id=ID), image=BEFORE)
    assert "a" in BEFORE.topics
    assert not image.topics
    assert not image.names_by_id
    assert image.version == BEFORE.version + 1


def test_versions_rise_with_each_change_of_their_object() -> None:
    image = after(
        AddPartitions(name="a", version=0, replicas=((1,),)),
        SetTopicConfig(name="a", version=0, overrides={"segment.ms": "1"}),
        SetTopicConfig(name="a", version=1, overrides={}),
        image=BEFORE,
    )
    topic = image.topics["a"]
    assert (topic.version, topic.config_version, dict(topic.overrides)) == (1, 2, {})
    assert [partition.index for partition in topic.partitions] == [0, 1, 2]


def test_an_election_raises_the_epochs_of_what_the_broker_leads() -> None:
    image = after(Elect(node_id=1), Elect(node_id=1), Elect(node_id=2), image=BEFORE)
    assert [(p.leader, p.leader_epoch, p.partition_epoch) for p in image.topics["a"].partitions] == [
        (1, 2, 2),
        (2, 1, 1),
    ]
