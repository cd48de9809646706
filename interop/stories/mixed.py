"""Stories of several clients on one topic."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from kafka import KafkaProducer

from interop.stories import aiokafka_client, confluent, kafka_python, story
from interop.stories.common import BASE_TIME, CODECS, fresh_group, fresh_topic


@story
def everybody_reads_what_everybody_wrote(bootstrap: str) -> Any:
    """Each client writes in each codec; each client reads it all."""
    topic = fresh_topic(bootstrap)
    values: list[bytes] = []

    async def write_with_aiokafka(codec: str) -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=codec) as producer:
            await producer.send_and_wait(topic, values[-1], timestamp_ms=BASE_TIME)

    for codec in CODECS:
        values.append(f"kafka-python {codec}".encode() * 20)
        producer = KafkaProducer(bootstrap_servers=bootstrap, compression_type=codec)
        producer.send(topic, values[-1], timestamp_ms=BASE_TIME).get(10)
        producer.close()
        values.append(f"confluent {codec}".encode() * 20)
        confluent.produce(bootstrap, topic, [values[-1]], compression_type=codec)
        values.append(f"aiokafka {codec}".encode() * 20)
        asyncio.run(write_with_aiokafka(codec))

    by_kafka_python = kafka_python.make_consumer(bootstrap, topic)
    assert [record.value for record in kafka_python.read(by_kafka_python, len(values))] == values
    by_kafka_python.close()

    by_confluent = confluent.make_consumer(bootstrap, fresh_group(bootstrap))
    by_confluent.subscribe([topic])
    assert [record.value() for record in confluent.read(by_confluent, len(values))] == values
    by_confluent.close()

    async def read_with_aiokafka() -> list[Any]:
        async with aiokafka_client.make_consumer(bootstrap, topic) as consumer:
            return await aiokafka_client.read(consumer, len(values))

    got = asyncio.run(read_with_aiokafka())
    assert [record.value for record in got] == values
    return [(record.offset, record.timestamp, record.value) for record in got]
