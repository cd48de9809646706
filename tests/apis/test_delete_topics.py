"""DeleteTopics: SEMANTICS section 8."""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext
from pykbroker.apis.delete_topics import failed, handle
from pykbroker.catalog.image import CONSUMER_OFFSETS
from pykbroker.catalog.topics import NewTopic
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from pykbroker.protocol.schema import ZERO_UUID
from tests.apis.admin_support import context, served

UNKNOWN_ID = b"\x07" * 16


async def ready(version: int, *sets: str) -> tuple[RequestContext, dict[str, bytes]]:
    ctx = context(version, None, *sets)
    await ctx.services.topics.create([NewTopic(name="a"), NewTopic(name="b")])
    await ctx.services.topics.ensure_internal(CONSUMER_OFFSETS)
    return ctx, {topic.name: topic.topic_id for topic in ctx.services.catalog.image.topics.values()}


async def test_by_name() -> None:
    ctx, ids = await ready(5)
    response = await served(handle, ctx, DeleteTopicsRequest(topic_names=["a", "nope", CONSUMER_OFFSETS]))
    assert [(r.name, r.error_code, r.topic_id) for r in response.responses] == [
        ("a", 0, ids["a"]),
        ("nope", 3, ZERO_UUID),
        (CONSUMER_OFFSETS, 17, ZERO_UUID),
    ]
    assert set(ctx.services.catalog.image.topics) == {"b", CONSUMER_OFFSETS}
    assert ctx.services.catalog.image.topic_by_id(ids["a"]) is None


async def test_by_id() -> None:
    ctx, ids = await ready(6)
    topics = [DeleteTopicState(topic_id=each) for each in (ids["b"], UNKNOWN_ID)]
    response = await served(handle, ctx, DeleteTopicsRequest(topics=topics))
    assert [(r.name, r.error_code, r.topic_id) for r in response.responses] == [
        ("b", 0, ids["b"]),
        (None, 100, UNKNOWN_ID),
    ]


async def test_what_cannot_be_understood_is_refused_and_nothing_of_it_deleted() -> None:
    ctx, ids = await ready(6)
    topics = [
        DeleteTopicState(),
        DeleteTopicState(name="a", topic_id=ids["a"]),
        DeleteTopicState(name="x"),
        DeleteTopicState(name="x"),
        DeleteTopicState(topic_id=UNKNOWN_ID),
        DeleteTopicState(topic_id=UNKNOWN_ID),
    ]
    response = await served(handle, ctx, DeleteTopicsRequest(topics=topics))
    assert [(r.name, r.error_code) for r in response.responses] == [
        (None, 42),
        ("a", 42),
        ("x", 42),
        (None, 42),
    ]
    assert set(ctx.services.catalog.image.topics) == {"a", "b", CONSUMER_OFFSETS}


async def test_the_same_topic_by_name_and_id() -> None:
    ctx, ids = await ready(6)
    topics = [DeleteTopicState(name="a"), DeleteTopicState(topic_id=ids["a"])]
    response = await served(handle, ctx, DeleteTopicsRequest(topics=topics))
    assert sorted(r.error_code for r in response.responses) == [0, 42]


async def test_deletion_may_be_disabled() -> None:
    for version, code in [(2, 42), (3, 73)]:
        ctx, _ = await ready(version, "delete.topic.enable=false")
        response = await served(handle, ctx, DeleteTopicsRequest(topic_names=["a"]))
        assert [r.error_code for r in response.responses] == [code]
        assert "a" in ctx.services.catalog.image.topics


async def test_failed_names_every_topic() -> None:
    request = DeleteTopicsRequest(topic_names=["a", "b"])
    response = failed(context(5), request, ErrorCode.UNKNOWN_SERVER_ERROR)
    assert [(r.name, r.error_code) for r in response.responses] == [("a", -1), ("b", -1)]
