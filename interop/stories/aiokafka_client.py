"""Stories told with aiokafka."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from interop.stories import story
from interop.stories.common import BASE_TIME, CODECS, RECORDS, fill, fresh_group, fresh_topic

PATIENCE_S = 15.0


def make_consumer(bootstrap: str, *topics: str, **options: Any) -> AIOKafkaConsumer:
    """A consumer that starts at the beginning and notices rebalances quickly."""
    defaults: dict[str, Any] = {
        "bootstrap_servers": bootstrap,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "session_timeout_ms": 6000,
        "heartbeat_interval_ms": 150,
        "fetch_max_wait_ms": 100,
    }
    return AIOKafkaConsumer(*topics, **defaults | options)


async def read(consumer: AIOKafkaConsumer, count: int) -> list[Any]:
    """The next so many records. Raises TimeoutError if they do not come in time."""
    async with asyncio.timeout(PATIENCE_S):
        return [await consumer.getone() for _ in range(count)]


@story
def keys_headers_nulls_and_timestamps(bootstrap: str) -> Any:
    """Everything that a record can hold comes back as it was."""
    topic = fresh_topic(bootstrap)

    async def tell() -> Any:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True) as producer:
            sent = [
                await producer.send_and_wait(
                    topic, value, key, timestamp_ms=BASE_TIME + index, headers=headers
                )
                for index, (key, value, headers) in enumerate(RECORDS)
            ]
        async with make_consumer(bootstrap, topic) as consumer:
            got = await read(consumer, len(RECORDS))
        assert [(record.key, record.value, list(record.headers)) for record in got] == RECORDS
        return (
            [(meta.offset, meta.timestamp, meta.timestamp_type) for meta in sent],
            [(record.offset, record.timestamp, record.timestamp_type) for record in got],
        )

    return asyncio.run(tell())


@story
def every_codec(bootstrap: str) -> Any:
    """Batches of all codecs in one partition."""
    topic = fresh_topic(bootstrap)

    async def tell() -> Any:
        values: list[bytes] = []
        for codec in (None, *CODECS):
            async with AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=codec) as producer:
                for index in range(10):
                    values.append(f"{codec} {index} ".encode() * 40)
                    await producer.send(topic, values[-1], timestamp_ms=BASE_TIME + index)
        async with make_consumer(bootstrap, topic) as consumer:
            got = await read(consumer, len(values))
        assert [record.value for record in got] == values
        return [(record.offset, record.timestamp) for record in got]

    return asyncio.run(tell())


@story
def seeking_and_times(bootstrap: str) -> Any:
    """A consumer that jumps, and asks."""
    topic = fresh_topic(bootstrap)
    partition = TopicPartition(topic, 0)

    async def tell() -> Any:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            for number in range(10):
                await producer.send_and_wait(topic, b"%d" % number, timestamp_ms=BASE_TIME + number)
        async with make_consumer(bootstrap) as consumer:
            consumer.assign([partition])
            consumer.seek(partition, 7)
            seventh = [record.value for record in await read(consumer, 2)]
            await consumer.seek_to_beginning(partition)
            first = [record.value for record in await read(consumer, 2)]
            times = [
                (await consumer.offsets_for_times({partition: BASE_TIME + at}))[partition]
                for at in (0, 5, 50)
            ]
            ends = await consumer.beginning_offsets([partition]), await consumer.end_offsets([partition])
        found = [time and (time.offset, time.timestamp) for time in times]
        return seventh, first, found, [end[partition] for end in ends]

    return asyncio.run(tell())


@story
def two_members_share_and_one_leaves(bootstrap: str) -> Any:
    """Four partitions, two each; then one leaves and the other goes on from what was committed."""
    topic, group = fresh_topic(bootstrap, partitions=4), fresh_group(bootstrap)
    fill(bootstrap, topic, partitions=4, count=5)

    async def poll_until_sizes(wanted: list[int], *consumers: AIOKafkaConsumer) -> list[Any]:
        got: list[Any] = []
        async with asyncio.timeout(PATIENCE_S):
            while [len(each.assignment()) for each in consumers] != wanted:
                for each in consumers:
                    for records in (await each.getmany(timeout_ms=50)).values():
                        got += records
        return got

    async def tell() -> Any:
        first = make_consumer(bootstrap, topic, group_id=group)
        await first.start()
        await poll_until_sizes([4], first)
        second = make_consumer(bootstrap, topic, group_id=group)
        await second.start()
        await poll_until_sizes([2, 2], first, second)
        shared = sorted(part.partition for part in first.assignment() | second.assignment())
        taken = second.assignment()
        await second.commit({part: OffsetAndMetadata(3, "m") for part in taken})
        await second.stop()
        got = await poll_until_sizes([4], first)
        while len(mine := [one for one in got if TopicPartition(topic, one.partition) in taken]) < 4:
            got += await read(first, 1)
        committed = [await first.committed(part) for part in taken]
        await first.stop()
        return shared, sorted(record.value for record in mine), committed

    return asyncio.run(tell())
