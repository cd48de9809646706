"""Bits flipped and tails torn in segment files: what a client that checks CRCs then reads.

Every intact record is still read, at its offset and with its bytes; the damaged batch is refused by
the broker (a hole) or by the client (its CRC); the log says where.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import CorruptRecordError

from pykbroker.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.testing import BrokerProcess
from tests.rawclient import RawClient

pytestmark = pytest.mark.damages_data

BATCHES, PER_BATCH = 12, 3
END = BATCHES * PER_BATCH
DAMAGED = 6
"""The batch in the middle that is damaged."""

FIELDS = {
    "base offset": (0, 8), "batch length": (8, 12), "leader epoch": (12, 16), "magic": (16, 17),
    "crc": (17, 21), "attributes": (21, 23), "last offset delta": (23, 27), "base timestamp": (27, 35),
    "max timestamp": (35, 43), "producer id": (43, 51), "producer epoch": (51, 53),
    "base sequence": (53, 57), "record count": (57, 61), "first record": (61, 65),
}  # fmt: skip
"""Byte ranges of a batch's fields (record batch v2)."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One bit of one field: the topic that carries it, and the byte to change."""

    topic: str
    at: int
    mask: int


DAMAGES = [
    Damage(f"{name.replace(' ', '-')}-{end}", at, mask)
    for name, (first, last) in FIELDS.items()
    for end, at, mask in (("low", last - 1, 1), ("high", first, 0x80))
]


def value_at(offset: int) -> bytes:
    """What was produced at ``offset``."""
    return b"record %d " % offset + bytes(range(60))


@pytest.mark.parametrize("how", ["live", "clean restart", "killed"])
def test_one_flipped_bit_costs_only_its_own_batch(tmp_path: Path, how: str) -> None:
    with BrokerProcess(data_dir=tmp_path) as broker:
        _create(broker.bootstrap, [d.topic for d in DAMAGES], {"pykbroker.corruption.policy": "skip"})
        for damage in DAMAGES:
            _fill(broker.bootstrap, damage.topic)
        if how == "clean restart":
            broker.stop()
        elif how == "killed":
            broker.kill()
        for damage in DAMAGES:
            _flip(_segment(tmp_path, damage.topic), damage)
        if how != "live":
            broker.start()
        wrong: dict[str, object] = {}
        reader = _reader(broker.bootstrap)
        for damage in DAMAGES:
            lost, bad = _compare(_read(reader, damage.topic))
            if bad or lost - set(range(DAMAGED * PER_BATCH, (DAMAGED + 1) * PER_BATCH)):
                wrong[damage.topic] = {"lost": sorted(lost), "bad": bad}
        reader.close()
        output = broker.output()
    assert wrong == {}
    if how == "killed":
        silent = [d.topic for d in DAMAGES if f"{d.topic}-0" not in output]
        assert silent == [], "damage that the log does not report"


def test_with_policy_stop_a_reader_is_told_at_the_hole_and_may_seek_behind_it(tmp_path: Path) -> None:
    with BrokerProcess(data_dir=tmp_path) as broker:
        _create(broker.bootstrap, ["stop"], {})
        _fill(broker.bootstrap, "stop")
        broker.kill()
        _flip(_segment(tmp_path, "stop"), Damage("stop", 61, 1))
        broker.start()
        consumer = KafkaConsumer(
            bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=30_000
        )
        where = TopicPartition("stop", 0)
        consumer.assign([where])
        before: list[int] = []
        with pytest.raises(CorruptRecordError):
            before.extend(record.offset for record in consumer)
        first = (DAMAGED + 1) * PER_BATCH
        consumer.seek(where, first)
        behind = [next(consumer).offset for _ in range(first, END)]
        assert consumer.end_offsets([where]) == {where: END}
        consumer.close()
    assert before == list(range(DAMAGED * PER_BATCH))
    assert behind == list(range((DAMAGED + 1) * PER_BATCH, END))


def _torn_tails(batch: bytes) -> dict[str, bytes]:
    """Bytes that a kill or a crash of the machine may leave behind the last whole batch."""
    cuts = {f"cut-at-{size}": batch[:size] for size in (1, 7, 11, 12, 16, 20, 60, 61, 62, len(batch) - 1)}
    return cuts | {
        "zeros": bytes(5000),
        "garbage": bytes(range(256)) * 3,
        "bad-crc": batch[:-1] + bytes([batch[-1] ^ 1]),
        "zeros-inside": batch[:61] + bytes(len(batch) - 61),
        "length-lies": batch[:8] + struct.pack(">i", 2**30) + batch[12:],
    }


def test_torn_tails_of_every_kind_are_cut_and_writing_goes_on(tmp_path: Path) -> None:
    torn = _torn_tails(_batch(END))
    with BrokerProcess(data_dir=tmp_path) as broker:
        _create(broker.bootstrap, list(torn), {})
        for topic in torn:
            _fill(broker.bootstrap, topic)
        broker.kill()
        for topic, tail in torn.items():
            with _segment(tmp_path, topic).open("ab") as segment:
                segment.write(tail)
        broker.start()
        for topic in torn:
            with RawClient(broker.bootstrap) as client:
                assert _produce(client, topic, END) == END, topic
        wrong = {}
        reader = _reader(broker.bootstrap)
        for topic in torn:
            found = _read(reader, topic, END + PER_BATCH)
            if found != [(offset, value_at(offset)) for offset in range(END + PER_BATCH)]:
                wrong[topic] = found
        reader.close()
        output = broker.output()
    assert wrong == {}
    assert [topic for topic in torn if f"{topic}-0" not in output] == [], "tails that were cut silently"


def _create(bootstrap: str, topics: list[str], configs: dict[str, str]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs) for topic in topics])
    admin.close()


def _batch(first: int) -> bytes:
    records = [
        RecordData(key=None, value=value_at(offset), timestamp_ms=1_700_000_000_000, headers=())
        for offset in range(first, first + PER_BATCH)
    ]
    return encode_batch(records, timestamp_ms=1_700_000_000_000)


def _fill(bootstrap: str, topic: str) -> None:
    with RawClient(bootstrap) as client:
        for number in range(BATCHES):
            assert _produce(client, topic, number * PER_BATCH) == number * PER_BATCH


def _produce(client: RawClient, topic: str, first: int) -> int:
    data = [
        TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=0, records=_batch(first))])
    ]
    answer = client.call(ProduceRequest(acks=-1, timeout_ms=5_000, topic_data=data), ProduceResponse, 9)
    partition = answer.responses[0].partition_responses[0]
    assert partition.error_code == 0, partition
    return partition.base_offset


def _segment(data_dir: Path, topic: str) -> Path:
    return data_dir / f"{topic}-0" / f"{0:020}.log"


def _flip(segment: Path, damage: Damage) -> None:
    position = 0
    with segment.open("r+b") as file:
        for _ in range(DAMAGED):
            file.seek(position + 8)
            position += 12 + struct.unpack(">i", file.read(4))[0]
        file.seek(position + damage.at)
        changed = file.read(1)[0] ^ damage.mask
        file.seek(position + damage.at)
        file.write(bytes([changed]))


def _reader(bootstrap: str) -> KafkaConsumer:
    return KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", check_crcs=True, fetch_max_wait_ms=100
    )


def _read(consumer: KafkaConsumer, topic: str, end: int = END) -> list[tuple[int, bytes]]:
    """Everything that a consumer accepts; it goes on behind a batch that its CRC check refuses."""
    where = TopicPartition(topic, 0)
    consumer.assign([where])
    found: list[tuple[int, bytes]] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            for record in consumer.poll(timeout_ms=200).get(where, ()):
                found.append((record.offset, record.value))
        except CorruptRecordError:
            at = consumer.position(where)
            consumer.seek(where, (at // PER_BATCH + 1) * PER_BATCH)
        if consumer.position(where) >= end:
            break
    return found


def _compare(found: list[tuple[int, bytes]]) -> tuple[set[int], list[tuple[int, bytes]]]:
    """(offsets that were not read, records that are not what was produced there)."""
    good = [(offset, value) for offset, value in found if value == value_at(offset)]
    return set(range(END)) - {offset for offset, _ in good}, [pair for pair in found if pair not in good]
