"""The few requests that most probes start with, spelled once.

All functions work on an open :class:`~interop.raw.Connection` and assert that the preparation itself
succeeded."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from interop.batches import encode_batch
from interop.messages import Answer
from interop.raw import Connection

LATEST, EARLIEST = -1, -2
NO_SESSION, NEW_SESSION = -1, 0

_READY_WITHIN_S = 10.0


def unique(prefix: str) -> str:
    """A name that no earlier run used."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def wait_until(condition: Callable[[], bool], *, within: float = _READY_WITHIN_S) -> None:
    """Polls until the condition holds. Raises AssertionError after so many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"did not come true within {within} s"
        time.sleep(0.02)


def create_topic(
    connection: Connection, name: str, *, partitions: int = 1, configs: Mapping[str, str] | None = None
) -> uuid.UUID:
    """Creates a topic, waits until the broker leads all its partitions, and returns its id."""
    entries = [{"name": key, "value": value} for key, value in (configs or {}).items()]
    wanted = {"name": name, "num_partitions": partitions, "replication_factor": 1, "configs": entries}
    answer = connection.ask("create_topics", 7, topics=[wanted], timeout=10_000)
    assert answer.topics[0].error_code == 0, answer

    indexes = range(answer.topics[0].num_partitions)
    asked = [{"partition_index": index, "timestamp": LATEST} for index in indexes]

    def is_led() -> bool:  # Metadata is not enough: Apache Kafka announces a leader a moment before it leads
        listed = connection.ask(
            "list_offsets", 8, replica_id=-1, topics=[{"name": name, "partitions": asked}]
        )
        return not any(error_codes(listed.topics[0].partitions))

    wait_until(is_led)
    topic_id = answer.topics[0].topic_id
    assert isinstance(topic_id, uuid.UUID)
    return topic_id


def produce(
    connection: Connection,
    topic: str,
    records: bytes | None = None,
    *,
    partition: int = 0,
    acks: int = -1,
    version: int = 9,
) -> Answer:
    """Produces raw bytes (one plain record by default) and returns the partition's part of the answer."""
    answer = connection.ask(
        "produce", version, **produce_request(topic, records, partition=partition, acks=acks)
    )
    part: Answer = answer.responses[0].partition_responses[0]
    return part


def produce_request(
    topic: str, records: bytes | None = None, *, partition: int = 0, acks: int = -1
) -> dict[str, Any]:
    """The values of a Produce request (below v13) for one partition."""
    data = [{"index": partition, "records": encode_batch() if records is None else records}]
    return {"acks": acks, "timeout": 10_000, "topic_data": [{"name": topic, "partition_data": data}]}


def fetch_request(
    topic: str,
    offset: int = 0,
    *,
    partition: int = 0,
    max_wait: int = 0,
    min_bytes: int = 1,
    partition_max_bytes: int = 1 << 20,
    **more: Any,
) -> dict[str, Any]:
    """The values of a Fetch request (below v13) for one partition, without a session unless ``more`` says
    so."""
    return {
        "replica_id": -1,
        "max_wait": max_wait,
        "min_bytes": min_bytes,
        "max_bytes": 50 << 20,
        "session_id": 0,
        "session_epoch": NO_SESSION,
        "topics": [{"topic": topic, "partitions": [fetch_partition(offset, partition, partition_max_bytes)]}],
    } | more


def fetch_partition(offset: int, partition: int = 0, max_bytes: int = 1 << 20, **more: Any) -> dict[str, Any]:
    """One partition inside a Fetch request."""
    return {"partition": partition, "fetch_offset": offset, "partition_max_bytes": max_bytes} | more


def fetch(
    connection: Connection, topic: str, offset: int = 0, *, version: int = 12, **options: Any
) -> Answer:
    """Fetches from one partition and returns its part of the answer."""
    request = fetch_request(topic, offset, **options)
    if version < 7:
        del request["session_id"], request["session_epoch"]
    answer = connection.ask("fetch", version, **request)
    assert version < 7 or answer.error_code == 0, answer
    part: Answer = answer.responses[0].partitions[0]
    return part


def list_offset(
    connection: Connection, topic: str, timestamp: int, *, version: int = 8, **options: Any
) -> Answer:
    """Asks ListOffsets about one partition and returns its part of the answer."""
    partition = {"partition_index": 0, "timestamp": timestamp} | options
    answer = connection.ask(
        "list_offsets", version, replica_id=-1, topics=[{"name": topic, "partitions": [partition]}]
    )
    part: Answer = answer.topics[0].partitions[0]
    return part


def wait_for_coordinator(connection: Connection, group: str) -> None:
    """Asks FindCoordinator until it names a broker, then waits until that coordinator has loaded."""

    def is_found() -> bool:
        return bool(connection.ask("find_coordinator", 3, key=group, key_type=0).error_code == 0)

    def is_loaded() -> bool:
        answer = connection.ask("offset_fetch", 7, group_id=group, topics=[])
        return bool(answer.error_code == 0)

    wait_until(is_found)
    wait_until(is_loaded)


def init_producer(connection: Connection) -> int:
    """A fresh producer id of epoch 0."""

    def answer() -> Answer:
        return connection.ask(
            "init_producer_id",
            4,
            transactional_id=None,
            transaction_timeout=60_000,
            producer_id=-1,
            producer_epoch=-1,
        )

    last = answer()
    deadline = time.monotonic() + _READY_WITHIN_S
    while last.error_code in (14, 15) and time.monotonic() < deadline:  # coordinator loading or not there yet
        time.sleep(0.05)
        last = answer()
    assert (last.error_code, last.producer_epoch) == (0, 0), last
    producer_id = last.producer_id
    assert isinstance(producer_id, int)
    return producer_id


def error_codes(parts: Sequence[Answer]) -> list[int]:
    """The error codes of some parts of an answer."""
    return [part.error_code for part in parts]
