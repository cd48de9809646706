"""Stories told with kafka-python 3."""

import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from interop.stories import story
from interop.stories.common import BASE_TIME, CODECS, RECORDS, fill, fresh_group, fresh_topic

PATIENCE_S = 15.0


def make_consumer(bootstrap: str, *topics: str, **options: Any) -> KafkaConsumer:
    """A consumer that starts at the beginning, notices rebalances quickly, and knows its topics' partitions.

    The last because kafka-python 3.0.12, when it leads a group before it has seen the metadata, now and then
    assigns nothing to anybody and never finds out (seen with Apache Kafka, one run in six)."""
    defaults: dict[str, Any] = {
        "bootstrap_servers": bootstrap,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "session_timeout_ms": 6000,
        "heartbeat_interval_ms": 150,
        "fetch_max_wait_ms": 100,
        "consumer_timeout_ms": int(PATIENCE_S * 1000),
    }
    consumer = KafkaConsumer(*topics, **defaults | options)
    for topic in topics:
        consumer.partitions_for_topic(topic)
    return consumer


def read(consumer: KafkaConsumer, count: int) -> list[Any]:
    """The next so many records. Raises AssertionError if they do not come in time."""
    records = [record for _, record in zip(range(count), consumer, strict=False)]
    assert len(records) == count, f"{len(records)} of {count} records came"
    return records


def poll_until(condition: Callable[[], bool], *consumers: KafkaConsumer) -> list[Any]:
    """Polls the consumers in turn until the condition holds; returns the records that came meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    records: list[Any] = []
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        for consumer in consumers:
            for batch in consumer.poll(timeout_ms=50).values():
                records += batch
    return records


def send_numbers(bootstrap: str, topic: str, count: int, *, partition: int = 0, start: int = 0) -> None:
    """Numbers as text, one second apart from BASE_TIME on."""
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for number in range(start, start + count):
        at = BASE_TIME + number * 1000
        producer.send(topic, b"%d" % number, partition=partition, timestamp_ms=at)
    producer.flush()
    producer.close()


@story
def keys_headers_nulls_and_timestamps(bootstrap: str) -> Any:
    """Everything that a record can hold comes back as it was."""
    topic = fresh_topic(bootstrap)
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    sent = [
        producer.send(topic, value, key, headers, timestamp_ms=BASE_TIME + index).get(10)
        for index, (key, value, headers) in enumerate(RECORDS)
    ]
    producer.close()
    consumer = make_consumer(bootstrap, topic)
    got = read(consumer, len(RECORDS))
    consumer.close()
    assert [(record.key, record.value, list(record.headers)) for record in got] == RECORDS
    return (
        [(meta.partition, meta.offset, meta.timestamp) for meta in sent],
        [(record.offset, record.timestamp, record.timestamp_type, list(record.headers)) for record in got],
    )


@story
def every_codec(bootstrap: str) -> Any:
    """Batches of all codecs in one partition."""
    topic = fresh_topic(bootstrap)
    values: list[bytes] = []
    for codec in (None, *CODECS):
        producer = KafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, linger_ms=20)
        for index in range(10):
            values.append(f"{codec} {index} ".encode() * 40)
            producer.send(topic, values[-1], timestamp_ms=BASE_TIME + index)
        producer.flush()
        producer.close()
    consumer = make_consumer(bootstrap, topic)
    got = read(consumer, len(values))
    consumer.close()
    assert [record.value for record in got] == values
    return [(record.offset, record.timestamp) for record in got]


@story
def every_acks(bootstrap: str) -> Any:
    """acks 0, 1 and all, with and without idempotence."""
    topic = fresh_topic(bootstrap)
    offsets = []
    for acks, idempotent in ((0, False), (1, False), ("all", False), ("all", True)):
        producer = KafkaProducer(bootstrap_servers=bootstrap, acks=acks, enable_idempotence=idempotent)
        offsets.append(producer.send(topic, b"x").get(10).offset)
        producer.close()
    consumer = make_consumer(bootstrap, topic)
    count = len(read(consumer, 4))
    consumer.close()
    return offsets, count


@story
def too_large_a_record(bootstrap: str) -> Any:
    """The producer learns which error it was, and can go on (an idempotent one cannot: kafka-python gives
    up)."""
    topic = fresh_topic(bootstrap, configs={"max.message.bytes": "2000"})
    producer = KafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=False)
    refused = producer.send(topic, b"x" * 5000)
    try:
        refused.get(10)
        error = None
    except KafkaError as raised:
        error = type(raised).__name__
    offset = producer.send(topic, b"small").get(10).offset
    producer.close()
    return error, offset


@story
def seeking(bootstrap: str) -> Any:
    """Beginning, end, and a place in between."""
    topic = fresh_topic(bootstrap)
    send_numbers(bootstrap, topic, 20)
    partition = TopicPartition(topic, 0)
    consumer = make_consumer(bootstrap)
    consumer.assign([partition])
    consumer.seek(partition, 7)
    seventh = [record.value for record in read(consumer, 3)]
    consumer.seek_to_beginning(partition)
    first = [record.value for record in read(consumer, 2)]
    consumer.seek_to_end(partition)
    end = consumer.position(partition)
    send_numbers(bootstrap, topic, 1, start=20)
    last = [record.value for record in read(consumer, 1)]
    ends = (
        list(consumer.beginning_offsets([partition]).values()),
        list(consumer.end_offsets([partition]).values()),
    )
    consumer.close()
    return seventh, first, end, last, ends


@story
def offsets_for_times(bootstrap: str) -> Any:
    """Before, between, at and after the records."""
    topic = fresh_topic(bootstrap)
    send_numbers(bootstrap, topic, 10)
    partition = TopicPartition(topic, 0)
    consumer = make_consumer(bootstrap)
    found = []
    for at in (0, BASE_TIME, BASE_TIME + 1, BASE_TIME + 4000, BASE_TIME + 9000, BASE_TIME + 9001):
        (answer,) = consumer.offsets_for_times({partition: at}).values()
        found.append(answer and (answer.offset, answer.timestamp))
    consumer.close()
    return found


@story
def reset_policies(bootstrap: str) -> Any:
    """A position that does not exist: earliest goes to the start, latest to the end, none complains."""
    topic = fresh_topic(bootstrap)
    send_numbers(bootstrap, topic, 3)
    partition = TopicPartition(topic, 0)
    outcome: list[Any] = []
    for policy in ("earliest", "latest", "none"):
        consumer = make_consumer(bootstrap, auto_offset_reset=policy)
        consumer.assign([partition])
        consumer.seek(partition, 100)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while consumer.position(partition) == 100 and time.monotonic() < deadline:
                consumer.poll(timeout_ms=50, max_records=1)
            if policy == "earliest":
                consumer.seek_to_beginning(partition)
            outcome.append((policy, consumer.position(partition)))
        except KafkaError as error:
            outcome.append((policy, type(error).__name__))
        consumer.close()
    return outcome


@story
def two_members_share_and_one_leaves(bootstrap: str) -> Any:
    """Four partitions, two each; then one leaves and the other goes on from what was committed."""
    topic, group = fresh_topic(bootstrap, partitions=4), fresh_group(bootstrap)
    fill(bootstrap, topic, partitions=4, count=5)
    first = make_consumer(bootstrap, topic, group_id=group)
    poll_until(lambda: len(first.assignment()) == 4, first)
    second = make_consumer(bootstrap, topic, group_id=group)
    poll_until(lambda: len(first.assignment()) == len(second.assignment()) == 2, first, second)
    shared = sorted(part.partition for part in first.assignment() | second.assignment())
    taken = second.assignment()
    second.commit({part: OffsetAndMetadata(3, "", -1) for part in taken})
    second.close()

    def is_taken_over() -> bool:
        return taken <= first.assignment() and all(first.position(part) == 5 for part in taken)

    got = poll_until(is_taken_over, first)
    mine = sorted(record.value for record in got if TopicPartition(topic, record.partition) in taken)
    committed = sorted(first.committed(part) for part in taken)
    first.close()
    assert mine == [b"3", b"3", b"4", b"4"]
    return shared, mine, committed


@story
def committed_offsets_and_metadata(bootstrap: str) -> Any:
    """Offset and metadata survive the consumer; what was never committed is None."""
    topic, group = fresh_topic(bootstrap, partitions=2), fresh_group(bootstrap)
    partition, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
    consumer = make_consumer(bootstrap, group_id=group)
    consumer.assign([partition, other])
    consumer.commit({partition: OffsetAndMetadata(42, "gr\u00fc\u00dfe, \u20ac", -1)})
    consumer.close()
    reader = make_consumer(bootstrap, group_id=group)
    reader.assign([partition, other])
    whole = reader.committed(partition, metadata=True)
    outcome = reader.committed(partition), whole.metadata, reader.committed(other)
    reader.close()
    assert outcome[0] == 42
    return outcome


@story
def a_group_continues_where_it_stopped(bootstrap: str) -> Any:
    """Automatic commits at closing; the next consumer of the group starts there, another group at the
    start."""
    topic, group = fresh_topic(bootstrap), fresh_group(bootstrap)
    send_numbers(bootstrap, topic, 10)
    consumer = make_consumer(bootstrap, topic, group_id=group, enable_auto_commit=True)
    first = [record.value for record in read(consumer, 6)]
    consumer.close()
    consumer = make_consumer(bootstrap, topic, group_id=group)
    second = [record.value for record in read(consumer, 4)]
    consumer.close()
    consumer = make_consumer(bootstrap, topic, group_id=fresh_group(bootstrap))
    other = read(consumer, 1)[0].value
    consumer.close()
    return first, second, other


@story
def administration(bootstrap: str) -> Any:
    """Topics and groups listed, described, changed and deleted."""
    topic, group = (
        fresh_topic(bootstrap, partitions=3, configs={"retention.ms": "1234567"}),
        fresh_group(bootstrap),
    )
    consumer = make_consumer(bootstrap, group_id=group)
    consumer.assign([TopicPartition(topic, 0)])
    consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(1, "", -1)})
    consumer.close()
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    listed = topic in admin.list_topics()
    partitions = admin.describe_topics([topic])[0]["partitions"]
    groups = group in {row[0] if isinstance(row, tuple) else row["group_id"] for row in admin.list_groups()}
    admin.delete_topics([topic])
    deadline = time.monotonic() + PATIENCE_S
    while topic in admin.list_topics() and time.monotonic() < deadline:
        time.sleep(0.05)
    gone = topic not in admin.list_topics()
    admin.close()
    return listed, len(partitions), groups, gone


@story
def partitions_by_key(bootstrap: str) -> Any:
    """The default partitioner sends equal keys to equal partitions."""
    topic = fresh_topic(bootstrap, partitions=5)
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    chosen = [producer.send(topic, b"", b"key %d" % number).get(10).partition for number in range(20)]
    producer.close()
    return chosen
