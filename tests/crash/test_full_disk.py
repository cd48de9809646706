"""A full disk: the producer is told, reads go on, writes return when there is space, no half batch."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.testing import BrokerProcess
from tests.containment.failures import Groups
from tests.crash.load import end_offsets, read_all
from tests.rawclient import RawClient

DISK_BYTES = 16 * 1024 * 1024
TOPIC = "filling"
RETRY, LETTERS = "orders.billing.retry", "orders.billing.dlq"


@pytest.fixture
def small_disk(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[Path]:
    """A file system of 16 MiB of its own."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        unavailable(f"no file system can be mounted ({mounted.stderr.strip()}); run as root on Linux")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_refuses_writes_until_there_is_space(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(DISK_BYTES // 2))
    with BrokerProcess(data_dir=small_disk / "data") as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.create_topics([NewTopic(TOPIC, 1, 1)])
        admin.close()
        with RawClient(broker.bootstrap) as client:
            acknowledged = _produce_until(client, ErrorCode.KAFKA_STORAGE_ERROR)
            assert acknowledged > 10
            assert _numbers(broker.bootstrap) == list(range(acknowledged)), "reads do not go on"
            assert _produce(client, acknowledged)[0] == ErrorCode.KAFKA_STORAGE_ERROR
            filler.unlink()
            code, offset = _produce(client, acknowledged)
            assert (code, offset) == (ErrorCode.NONE, acknowledged)
        assert _numbers(broker.bootstrap) == list(range(acknowledged + 1))
        broker.kill()
        broker.start()
        assert _numbers(broker.bootstrap) == list(range(acknowledged + 1))


def test_a_start_on_a_full_disk_says_so(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with BrokerProcess(data_dir=small_disk / "data") as broker:
        with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
            admin.create_topics([NewTopic(TOPIC, 1, 1)])
        broker.kill()
        (broker.data_dir / "pykbroker.json").unlink()  # or its room would do for the next one
        _fill(filler)
        with pytest.raises(RuntimeError, match="ended with status 1") as failure:
            broker.start()
        assert "No space left on device" in str(failure.value)
        assert "Traceback" not in str(failure.value)
        filler.unlink()
        broker.start()
        assert _numbers(broker.bootstrap) == []


def test_a_stop_on_a_full_disk_is_a_stop(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with BrokerProcess(data_dir=small_disk / "data") as broker:
        with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
            admin.create_topics([NewTopic(TOPIC, 1, 1)])
        with RawClient(broker.bootstrap) as client:
            assert _produce(client, 0) == (ErrorCode.NONE, 0)
        _fill(filler)
        assert broker.stop() == 0
        assert "Traceback" not in broker.output()
        filler.unlink()
        broker.start()
        assert _numbers(broker.bootstrap) == [0]


@pytest.mark.parametrize("killed", [False, True])
def test_failures_on_a_full_disk_come_when_there_is_space(small_disk: Path, *, killed: bool) -> None:
    """The commit fits, the copies do not: each is there once when there is room again."""
    filler = small_disk / "filler"
    with BrokerProcess(data_dir=small_disk / "data") as broker:
        with Groups(broker.bootstrap) as group:
            group.policy("orders", retry_delay_ms="100", retry_max_attempts="1")
            for number in range(40):
                assert group.put("orders", b"%d." % number + bytes(50_000)) == 0
            assert group.nack("billing", "orders", 0) == 0
            _wait_for(group, RETRY, 1)
            _fill(filler, leave=256 * 1024)
            assert group.nack("billing", "orders", [1, 39]) == 0
            time.sleep(1)
            assert len(group.letters("orders")) == 40, "reads go on"
            assert len(group.letters(RETRY)) < 20, "the disk is not full"
        if killed:
            broker.kill()
            filler.unlink()
            broker.start()
        else:
            filler.unlink()
        with Groups(broker.bootstrap) as group:
            _wait_for(group, RETRY, 40)
            _fill(filler, leave=256 * 1024)
            assert group.nack("billing", RETRY, [0, 39]) == 0
            time.sleep(1)
            filler.unlink()
            _wait_for(group, LETTERS, 40)
            time.sleep(0.5)
            for topic in (RETRY, LETTERS):
                numbers = [int((each.value or b"").split(b".")[0]) for each in group.letters(topic)]
                assert sorted(numbers) == list(range(40))
        assert "Traceback" not in broker.output()


def _wait_for(group: Groups, topic: str, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(group.letters(topic)) < count:
        assert time.monotonic() < deadline, f"{len(group.letters(topic))} of {count} in {topic}"
        time.sleep(0.1)


def _fill(filler: Path, leave: int = 0) -> None:
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, max(0, filler.stat().st_size - leave))


def _produce(client: RawClient, number: int) -> tuple[int, int]:
    record = RecordData(key=None, value=b"%d." % number + bytes(50_000), timestamp_ms=0, headers=())
    batch = encode_batch([record], timestamp_ms=1_700_000_000_000)
    data = [TopicProduceData(name=TOPIC, partition_data=[PartitionProduceData(index=0, records=batch)])]
    answer = client.call(ProduceRequest(acks=-1, timeout_ms=5_000, topic_data=data), ProduceResponse, 9)
    partition = answer.responses[0].partition_responses[0]
    return partition.error_code, partition.base_offset


def _produce_until(client: RawClient, code: ErrorCode) -> int:
    """How many records were acknowledged before ``code`` was answered."""
    for number in range(DISK_BYTES // 50_000):
        answered, offset = _produce(client, number)
        if answered == code:
            return number
        assert (answered, offset) == (ErrorCode.NONE, number)
    pytest.fail("the disk did not fill")


def _numbers(bootstrap: str) -> list[int]:
    ends = end_offsets(bootstrap, TOPIC, [0])
    return [number for _, number in read_all(bootstrap, TOPIC, 0, ends[0])]
