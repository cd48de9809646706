"""What the admin handlers' tests do not reach: internal topics, races, replicas on more brokers."""

from __future__ import annotations

import trio

from pykbroker.catalog import placement
from pykbroker.catalog.image import CONSUMER_OFFSETS, TRANSACTION_STATE
from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.topics import NewTopic, TopicAdmin
from pykbroker.config import BrokerConfig
from pykbroker.errors import ErrorCode, KafkaError


async def test_internal_topics_are_made_once_with_their_settings() -> None:
    catalog = MemoryCatalog(BrokerConfig.load(sets=["offsets.topic.num.partitions=7"]))
    topics = TopicAdmin(catalog)
    found = [await topics.ensure_internal(CONSUMER_OFFSETS) for _ in range(2)]
    assert found[0] is found[1]
    assert len(found[0].partitions) == 7
    config = catalog.topic_config(found[0])
    assert (config.cleanup_policy, config.segment_bytes, config.compression_type) == (
        frozenset({"compact"}),
        104857600,
        "producer",
    )
    assert len((await topics.ensure_internal(TRANSACTION_STATE)).partitions) == 50
    hidden = await topics.ensure_internal("__pykbroker_something")
    assert (hidden.hidden, hidden.internal, len(hidden.partitions)) == (True, True, 1)
    assert hidden not in list(catalog.image.visible_topics())


async def test_two_who_create_the_same_topic() -> None:
    topics = TopicAdmin(MemoryCatalog())
    results: list[dict[str, KafkaError | None]] = []

    async def ask() -> None:
        results.append(await topics.auto_create(["a", "b c"]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    for result in results:
        assert result["a"] is None
        error = result["b c"]
        assert error is not None
        assert error.code is ErrorCode.INVALID_TOPIC_EXCEPTION


async def test_many_topics_in_one_request_share_the_ceiling_of_partitions() -> None:
    topics = TopicAdmin(MemoryCatalog())
    results = await topics.create([NewTopic(name=f"t{i}", partitions=6_000) for i in range(2)])
    assert [r.code for r in results if isinstance(r, KafkaError)] == [ErrorCode.POLICY_VIOLATION] * 2


def test_partitions_are_spread_over_brokers() -> None:
    assert placement.spread(4, 2, {3, 1, 2}) == ((1, 2), (2, 3), (3, 1), (1, 2))
    assert placement.spread(2, 1, {1, 2}, first=3) == ((2,), (1,))
