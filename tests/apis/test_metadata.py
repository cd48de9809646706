"""Metadata: SEMANTICS section 8."""

from __future__ import annotations

import pytest

from pykbroker.apis._registry import RequestContext
from pykbroker.apis.metadata import failed, handle
from pykbroker.catalog.image import CONSUMER_OFFSETS
from pykbroker.catalog.topics import NewTopic
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.codec import decode, encode
from pykbroker.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from pykbroker.protocol.schema import ZERO_UUID
from tests.apis.admin_support import context, served


def named(*names: str, create: bool = True) -> MetadataRequest:
    topics = [MetadataRequestTopic(name=name) for name in names]
    return MetadataRequest(topics=topics, allow_auto_topic_creation=create)


def codes(response: MetadataResponse) -> dict[str | None, int]:
    return {topic.name: topic.error_code for topic in response.topics}


async def make(ctx: RequestContext, *names: str, partitions: int = 1) -> None:
    results = await ctx.services.topics.create([NewTopic(name=n, partitions=partitions) for n in names])
    assert len(results) == len(names)


async def test_null_is_all_and_an_empty_list_none_except_in_v0() -> None:
    ctx = context(12)
    await make(ctx, "a", "b")
    assert codes(await served(handle, ctx, MetadataRequest(topics=None))) == {"a": 0, "b": 0}
    assert codes(await served(handle, ctx, MetadataRequest(topics=[]))) == {}
    v0 = context(0)
    await make(v0, "a")
    assert codes(await served(handle, v0, MetadataRequest(topics=[]))) == {"a": 0}


async def test_a_topic_as_it_is() -> None:
    ctx = context(12)
    await make(ctx, "a", partitions=2)
    response = await served(handle, ctx, named("a", "a"))
    (topic,) = response.topics
    assert topic.topic_id == ctx.services.catalog.image.topics["a"].topic_id
    assert [(p.partition_index, p.leader_id, p.leader_epoch) for p in topic.partitions] == [
        (0, 1, 0),
        (1, 1, 0),
    ]
    assert (topic.partitions[0].replica_nodes, topic.partitions[0].isr_nodes) == ([1], [1])
    assert topic.partitions[0].offline_replicas == []
    assert not topic.is_internal
    assert response.controller_id == 1
    assert response.cluster_id == "memory"
    (broker,) = response.brokers
    assert (broker.node_id, broker.host, broker.port, broker.rack) == (1, "localhost", 9092, None)


async def test_authorised_operations_only_when_asked() -> None:
    ctx = context(9)
    await make(ctx, "a")
    request = named("a")
    response = await served(handle, ctx, request)
    assert response.cluster_authorized_operations == -2147483648
    assert response.topics[0].topic_authorized_operations == -2147483648
    request.include_cluster_authorized_operations = True
    request.include_topic_authorized_operations = True
    response = await served(handle, ctx, request)
    assert response.cluster_authorized_operations == 8096
    assert response.topics[0].topic_authorized_operations == 3576


async def test_auto_creation_answers_3_once_and_exists_then() -> None:
    ctx = context(12, None, "num.partitions=3")
    assert codes(await served(handle, ctx, named("new"))) == {"new": 3}
    response = await served(handle, ctx, named("new"))
    assert codes(response) == {"new": 0}
    assert len(response.topics[0].partitions) == 3


async def test_no_auto_creation_unless_both_sides_allow_it() -> None:
    ctx = context(12)
    assert codes(await served(handle, ctx, named("new", create=False))) == {"new": 3}
    refusing = context(12, None, "auto.create.topics.enable=false")
    assert codes(await served(handle, refusing, named("new"))) == {"new": 3}
    assert not ctx.services.catalog.image.topics
    assert not refusing.services.catalog.image.topics


@pytest.mark.parametrize("create", [True, False])
async def test_names_that_no_topic_may_have(create: bool) -> None:
    ctx = context(12)
    bad = ["", ".", "..", "a b", "x" * 250, "ü", "__pykbroker_x"]
    assert set(codes(await served(handle, ctx, named(*bad, create=create))).values()) == {17}
    assert not ctx.services.catalog.image.topics


async def test_a_colliding_name_is_not_created() -> None:
    ctx = context(12)
    await make(ctx, "a.b")
    assert codes(await served(handle, ctx, named("a_b"))) == {"a_b": 17}


async def test_by_id() -> None:
    ctx = context(12)
    await make(ctx, "a")
    known = ctx.services.catalog.image.topics["a"].topic_id
    unknown = b"\x07" * 16
    topics = [MetadataRequestTopic(topic_id=each, name=None) for each in (known, unknown)]
    response = await served(handle, ctx, MetadataRequest(topics=topics))
    assert [(t.error_code, t.name, t.topic_id) for t in response.topics] == [
        (0, "a", known),
        (100, None, unknown),
    ]


async def test_internal_topics_are_marked_and_ours_hidden() -> None:
    ctx = context(12, None, "offsets.topic.num.partitions=5")
    assert codes(await served(handle, ctx, named(CONSUMER_OFFSETS))) == {CONSUMER_OFFSETS: 3}
    await ctx.services.topics.ensure_internal("__pykbroker_forward")
    response = await served(handle, ctx, MetadataRequest(topics=None))
    (topic,) = response.topics
    assert (topic.name, topic.is_internal, len(topic.partitions)) == (CONSUMER_OFFSETS, True, 5)
    hidden = ctx.services.catalog.image.topics["__pykbroker_forward"].topic_id
    by_id = [MetadataRequestTopic(topic_id=hidden, name=None)]
    assert (await served(handle, ctx, MetadataRequest(topics=by_id))).topics[0].error_code == 100


async def test_failed_names_every_topic() -> None:
    response = failed(context(13), named("a", "b"), ErrorCode.UNKNOWN_SERVER_ERROR)
    assert codes(response) == {"a": -1, "b": -1}
    assert response.topics[0].topic_id == ZERO_UUID


@pytest.mark.parametrize("version", [10, 11])
@pytest.mark.parametrize("topic_id", [ZERO_UUID, bytes(15) + b"\x01"])
async def test_topic_ids_before_v12_are_refused_in_an_answer_that_can_be_written(
    version: int, topic_id: bytes
) -> None:
    ctx = context(version)
    request = MetadataRequest(topics=[MetadataRequestTopic(name=None, topic_id=topic_id)])
    with pytest.raises(KafkaError, match="by name") as refused:
        await served(handle, ctx, request)
    answer = failed(ctx, request, refused.value.code)
    assert decode(MetadataResponse, version, encode(answer, version)).topics[0].name == ""
    assert codes(answer) == {"": ErrorCode.INVALID_REQUEST}
