"""A full disk: the producer is told, reads go on, writes return when there is space, no half batch."""

from __future__ import annotations

import contextlib
import subprocess
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
from tests.crash.load import end_offsets, read_all
from tests.rawclient import RawClient

DISK_BYTES = 16 * 1024 * 1024
TOPIC = "filling"


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


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


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
