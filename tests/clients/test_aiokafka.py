"""aiokafka: produce, consume, group, commit.  It runs on asyncio, so every story has a loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import OffsetAndMetadata

PATIENCE_S = 30.0


@asynccontextmanager
async def running(client: Any) -> AsyncIterator[Any]:
    """The client between start and stop (or close)."""
    await client.start()
    try:
        yield client
    finally:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


def consumer(bootstrap: str, topic: str, group: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        heartbeat_interval_ms=200,
    )


async def make_topic(bootstrap: str, topic: str, partitions: int) -> None:
    async with running(AIOKafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        await admin.create_topics([NewTopic(topic, partitions, 1)])


async def produce(bootstrap: str, topic: str, values: list[bytes], **options: Any) -> list[int]:
    async with running(AIOKafkaProducer(bootstrap_servers=bootstrap, **options)) as producer:
        sent = [
            await producer.send(topic, value, key=b"k", headers=[("h", b"1")], partition=0)
            for value in values
        ]
        return [(await future).offset for future in sent]


async def take(reader: AIOKafkaConsumer, count: int) -> list[Any]:
    async with asyncio.timeout(PATIENCE_S):
        return [await reader.getone() for _ in range(count)]


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("idempotence", [True, False])
def test_what_was_produced_is_consumed(
    bootstrap: str, topic: str, group: str, codec: str | None, idempotence: bool
) -> None:
    values = [b"%d " % number * 50 for number in range(50)]

    async def story() -> None:
        options = {"compression_type": codec, "enable_idempotence": idempotence, "linger_ms": 20}
        await make_topic(bootstrap, topic, 1)
        assert await produce(bootstrap, topic, values, **options) == list(range(50))
        async with running(consumer(bootstrap, topic, group)) as reader:
            got = await take(reader, 50)
        assert [record.value for record in got] == values
        assert (got[0].key, list(got[0].headers)) == (b"k", [("h", b"1")])

    asyncio.run(story())


def test_a_group_shares_and_goes_on_from_its_commit(bootstrap: str, topic: str, group: str) -> None:
    async def story() -> None:
        await make_topic(bootstrap, topic, 2)
        await produce(bootstrap, topic, [b"a", b"b", b"c"])
        partition = TopicPartition(topic, 0)
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(running(consumer(bootstrap, topic, group)))
            two = await stack.enter_async_context(running(consumer(bootstrap, topic, group)))
            async with asyncio.timeout(PATIENCE_S):
                while not len(one.assignment()) == len(two.assignment()) == 1:  # noqa: ASYNC110  # no event to wait for
                    await asyncio.sleep(0.05)
            owner = one if partition in one.assignment() else two
            assert [record.value for record in await take(owner, 3)] == [b"a", b"b", b"c"]
            await owner.commit({partition: OffsetAndMetadata(2, "two")})
        async with running(consumer(bootstrap, topic, group)) as heir:
            assert [record.value for record in await take(heir, 1)] == [b"c"]
            assert await heir.committed(partition) == 2

    asyncio.run(story())


def test_seek_and_times(bootstrap: str, topic: str, group: str) -> None:
    async def story() -> None:
        async with running(AIOKafkaProducer(bootstrap_servers=bootstrap)) as producer:
            for stamp in (1000, 2000, 3000):
                await producer.send_and_wait(topic, b"%d" % stamp, partition=0, timestamp_ms=stamp)
        partition = TopicPartition(topic, 0)
        async with running(AIOKafkaConsumer(bootstrap_servers=bootstrap)) as reader:
            reader.assign([partition])
            assert (await reader.offsets_for_times({partition: 1500}))[partition].offset == 1
            assert await reader.beginning_offsets([partition]) == {partition: 0}
            assert await reader.end_offsets([partition]) == {partition: 3}
            reader.seek(partition, 2)
            assert [record.value for record in await take(reader, 1)] == [b"3000"]

    asyncio.run(story())
