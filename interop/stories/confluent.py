"""Stories told with confluent-kafka (librdkafka)."""

import time
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from interop.probing import unique
from interop.stories import story
from interop.stories.common import BASE_TIME, CODECS, RECORDS, fill, fresh_group, fresh_topic

PATIENCE_S = 20.0


def make_consumer(bootstrap: str, group: str, **options: Any) -> Consumer:
    """A consumer that starts at the beginning and notices rebalances quickly."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 150,
            "fetch.wait.max.ms": 100,
        }
        | {name.replace("_", "."): value for name, value in options.items()}
    )


def read(consumer: Consumer, count: int) -> list[Message]:
    """The next so many records. Raises KafkaException on an error, AssertionError if they do not come in
    time."""
    deadline = time.monotonic() + PATIENCE_S
    records: list[Message] = []
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records came"
        message = consumer.poll(0.1)
        if message is None:
            continue
        error = message.error()
        if error is not None:
            raise KafkaException(error)
        records.append(message)
    return records


def produce(bootstrap: str, topic: str, values: list[bytes], **options: Any) -> list[int | None]:
    """Produces to partition 0 and returns the offsets from the delivery reports."""
    settings = {name.replace("_", "."): value for name, value in options.items()}
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5} | settings)
    offsets: list[int | None] = []
    for index, value in enumerate(values):
        producer.produce(
            topic,
            value,
            partition=0,
            timestamp=BASE_TIME + index,
            on_delivery=lambda error, message: offsets.append(None if error else message.offset()),
        )
    assert producer.flush(PATIENCE_S) == 0
    return offsets


@story
def keys_headers_nulls_and_timestamps(bootstrap: str) -> Any:
    """Everything that a record can hold comes back as it was."""
    topic = fresh_topic(bootstrap)
    producer = Producer({"bootstrap.servers": bootstrap})
    reports: list[tuple[Any, ...]] = []
    for index, (key, value, headers) in enumerate(RECORDS):
        producer.produce(
            topic,
            value,
            key,
            partition=0,
            headers=list(headers),
            timestamp=BASE_TIME + index,
            on_delivery=lambda error, message: reports.append((error, message.offset(), message.timestamp())),
        )
        producer.flush(PATIENCE_S)
    consumer = make_consumer(bootstrap, fresh_group(bootstrap))
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    got = read(consumer, len(RECORDS))
    consumer.close()
    assert [(record.key(), record.value()) for record in got] == [record[:2] for record in RECORDS]
    return reports, [(record.offset(), record.timestamp(), record.headers()) for record in got]


@story
def every_codec(bootstrap: str) -> Any:
    """Batches of all codecs in one partition, from an idempotent producer."""
    topic = fresh_topic(bootstrap)
    values: list[bytes] = []
    reported = []
    for codec in ("none", *CODECS):
        batch = [f"{codec} {index} ".encode() * 40 for index in range(10)]
        reported.append(produce(bootstrap, topic, batch, compression_type=codec, enable_idempotence=True))
        values += batch
    consumer = make_consumer(bootstrap, fresh_group(bootstrap))
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    got = read(consumer, len(values))
    consumer.close()
    assert [record.value() for record in got] == values
    return reported, [(record.offset(), record.timestamp()) for record in got]


@story
def watermarks_times_and_seeking(bootstrap: str) -> Any:
    """Questions about offsets, and a consumer that jumps."""
    topic = fresh_topic(bootstrap)
    produce(bootstrap, topic, [b"%d" % number for number in range(10)])
    consumer = make_consumer(bootstrap, fresh_group(bootstrap))
    marks = consumer.get_watermark_offsets(TopicPartition(topic, 0), 10)
    asked = (0, BASE_TIME, BASE_TIME + 4, BASE_TIME + 100)
    times = [consumer.offsets_for_times([TopicPartition(topic, 0, at)], 10)[0].offset for at in asked]
    consumer.assign([TopicPartition(topic, 0, 5)])
    fifth = read(consumer, 1)[0].value()
    consumer.seek(TopicPartition(topic, 0, 2))
    second = read(consumer, 1)[0].value()
    consumer.close()
    return marks, times, fifth, second


@story
def two_members_share_and_one_leaves(bootstrap: str) -> Any:
    """Four partitions, two each; then one leaves and the other goes on from what was committed."""
    topic, group = fresh_topic(bootstrap, partitions=4), fresh_group(bootstrap)
    fill(bootstrap, topic, partitions=4, count=5)

    def poll_until_sizes(wanted: list[int], *consumers: Consumer) -> list[Message]:
        deadline = time.monotonic() + PATIENCE_S
        got = []
        while [len(each.assignment()) for each in consumers] != wanted:
            assert time.monotonic() < deadline, "did not come true in time"
            got += [message for each in consumers if (message := each.poll(0.05))]
        return got

    first = make_consumer(bootstrap, group)
    first.subscribe([topic])
    poll_until_sizes([4], first)
    second = make_consumer(bootstrap, group)
    second.subscribe([topic])
    poll_until_sizes([2, 2], first, second)
    shared = sorted(part.partition for part in [*first.assignment(), *second.assignment()])
    taken = [part.partition for part in second.assignment()]
    wanted = [TopicPartition(topic, partition, 3) for partition in taken]
    second.commit(offsets=wanted, asynchronous=False)
    second.close()
    got = poll_until_sizes([4], first)
    while len(mine := [message for message in got if message.partition() in taken]) < 4:
        got += read(first, 1)
    committed = [part.offset for part in first.committed(wanted, 10)]
    first.close()
    return shared, sorted(str(message.value()) for message in mine), committed


@story
def committed_offsets_and_metadata(bootstrap: str) -> Any:
    """Both come back; what was never committed has the client's marker for "none"."""
    topic, group = fresh_topic(bootstrap, partitions=2), fresh_group(bootstrap)
    consumer = make_consumer(bootstrap, group)
    wanted = [TopicPartition(topic, 0, 42, "gr\u00fc\u00dfe")]
    consumer.commit(offsets=wanted, asynchronous=False)
    found = consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], 10)
    consumer.close()
    return [(part.offset, part.metadata) for part in found]


@story
def administration(bootstrap: str) -> Any:
    """Topics created, described, altered and deleted, with the errors that a client sees."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    name = unique("story")

    def outcome(futures: dict[Any, Any]) -> Any:
        (future,) = futures.values()
        try:
            return future.result(PATIENCE_S)
        except KafkaException as error:
            return error.args[0].name()

    outcomes = [outcome(admin.create_topics([NewTopic(name, 3, 1)])) for _ in range(2)]
    outcomes.append(outcome(admin.create_topics([NewTopic(f"{name}/", 3, 1)])))
    outcomes.append(outcome(admin.create_topics([NewTopic(f"{name}2", 3, 7)])))
    configs = outcome(admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]))
    known = {key: configs[key].value for key in ("cleanup.policy", "retention.ms", "max.message.bytes")}
    deadline = time.monotonic() + PATIENCE_S
    while name not in admin.list_topics(timeout=10).topics and time.monotonic() < deadline:
        time.sleep(0.05)
    partitions = len(admin.list_topics(timeout=10).topics[name].partitions)
    outcomes += [outcome(admin.delete_topics([name])), outcome(admin.delete_topics([unique("missing")]))]
    return outcomes, known, partitions


@story
def unknown_topic(bootstrap: str) -> Any:
    """A consumer that may not create topics is told."""
    consumer = make_consumer(bootstrap, fresh_group(bootstrap), allow_auto_create_topics=False)
    consumer.subscribe([unique("missing")])
    try:
        read(consumer, 1)
    except KafkaException as error:
        return error.args[0].name()
    finally:
        consumer.close()
    return None
