"""Apache Kafka's DumpLogSegments reads what pykbroker wrote: every batch valid, every index sound."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from interop.conftest import give_up
from interop.kafka.jars import MissingToolError
from interop.kafka.tools import Dump, check_index_sanity, dump_log, verify_index
from pykbroker.catalog import role_topics
from pykbroker.delivery import indexing, settling, tidying
from pykbroker.testing import BrokerProcess, BrokerThread

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
ROLLED = {"segment.bytes": "20000", "index.interval.bytes": "512"}
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.bytes": "30000",
    "min.cleanable.dirty.ratio": "0.01",
    "index.interval.bytes": "512",
}
FAST_CLEANER = {
    "log.cleaner.backoff.ms": "200",
    "offsets.topic.num.partitions": "2",
    "offsets.topic.segment.bytes": "20000",
}


@pytest.fixture(scope="module", params=["stopped", "killed"])
def data_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that both clients wrote to, rolled and compacted, after a stop or a kill."""
    directory = tmp_path_factory.mktemp(f"dump-{request.param}")
    with BrokerProcess(data_dir=directory, settings=FAST_CLEANER) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.create_topics([NewTopic("rolled", 2, 1, topic_configs=ROLLED)])
        admin.create_topics([NewTopic("compacted", 1, 1, topic_configs=COMPACTED)])
        admin.close()
        for codec in CODECS:
            _with_kafka_python(broker.bootstrap, codec)
            _with_confluent_kafka(broker.bootstrap, codec)
        _commit(broker.bootstrap)
        _wait_until_compacted(directory / "compacted-0")
        if request.param == "killed":
            broker.kill()
            broker.start()
    return directory


def test_every_batch_of_every_segment_is_valid(data_dir: Path) -> None:
    rolled = [*sorted(data_dir.glob("rolled-*/*.log")), *sorted(data_dir.glob("__pykbroker_*/*.log"))]
    assert len(rolled) > 10
    assert _problems(lambda: dump_log(*rolled)) == []
    assert _problems(lambda: dump_log(*sorted(data_dir.glob("compacted-*/*.log")), compacted=True)) == []


def test_held_logs_that_were_rewritten_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is released has gone from them, offset by offset, as compaction leaves a log."""
    settings = {**role_topics.FLOW_SETTINGS, "segment.bytes": "20000", "index.interval.bytes": "512"}
    monkeypatch.setattr(role_topics, "FLOW_SETTINGS", settings)
    for module, name in ((indexing, "FLOOR_S"), (tidying, "TIDY_S"), (settling, "SOON_S")):
        monkeypatch.setattr(module, name, 0.05)
    with BrokerThread(data_dir=tmp_path) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.create_topics([NewTopic("later", 1, 1, topic_configs={"pykbroker.delay.enable": "true"})])
        admin.close()
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
        for number in range(400):
            delay = b"3600000" if number % 40 == 5 else b"1000"
            producer.send("later", b"%d" % number * 100, headers=[("pykbroker-delay-ms", delay)])
        producer.flush()
        producer.close()
        broker.advance(2)
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("__pykbroker_held_*/*.deleted")) and time.monotonic() < deadline:
            time.sleep(0.05)
    (held,) = tmp_path.glob("__pykbroker_held_*")
    assert list(held.glob("*.deleted")), "it was not rewritten"
    assert _problems(lambda: dump_log(*sorted(held.glob("*.log")), compacted=True)) == []
    indexes = [*sorted(held.glob("*.index")), *sorted(held.glob("*.timeindex"))]
    assert _problems(lambda: verify_index(*indexes)) == []
    assert _problems(lambda: check_index_sanity(*indexes)) == []


def test_the_offsets_decoder_reads_groups_and_commits(data_dir: Path) -> None:
    segments = sorted(data_dir.glob("__consumer_offsets-*/*.log"))
    try:
        dump = dump_log(*segments, offsets_decoder=True)
    except MissingToolError as error:
        give_up(str(error))
    assert dump.problems == []
    assert '"group":"dump-group"' in dump.output.replace(" ", "")


def test_every_index_is_sound(data_dir: Path) -> None:
    indexes = [*sorted(data_dir.glob("*-*/*.index")), *sorted(data_dir.glob("*-*/*.timeindex"))]
    assert indexes
    assert _problems(lambda: verify_index(*indexes)) == []
    assert _problems(lambda: check_index_sanity(*indexes)) == []


def test_producer_snapshots_are_readable(data_dir: Path) -> None:
    snapshots = sorted(data_dir.glob("*-*/*.snapshot"))
    assert snapshots
    assert _problems(lambda: dump_log(*snapshots)) == []


def _problems(judge: Callable[[], Dump]) -> list[str]:
    try:
        return judge().problems
    except MissingToolError as error:
        give_up(str(error))
        raise


def _with_kafka_python(bootstrap: str, codec: str) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, compression_type=None if codec == "none" else codec)
    for number in range(400):
        producer.send("rolled", b"value-%d" % number * 30, key=b"%d" % number, headers=[("h", b"1")])
        producer.send("compacted", b"value-%d" % number * 8, key=b"key-%d" % (number % 20))
        if number % 25 == 0:
            producer.flush()
    producer.flush()
    producer.close()


def _with_confluent_kafka(bootstrap: str, codec: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 2})
    for number in range(400):
        producer.produce("rolled", b"value-%d" % number * 30, key=b"%d" % number)
        producer.produce("compacted", b"value-%d" % number * 8, key=b"key-%d" % (number % 20))
        if number % 25 == 0:
            producer.flush(10)
    assert producer.flush(10) == 0


def _commit(bootstrap: str) -> None:
    consumer = KafkaConsumer(
        "rolled", bootstrap_servers=bootstrap, group_id="dump-group", auto_offset_reset="earliest",
        enable_auto_commit=False, max_poll_records=20,
    )  # fmt: skip
    consumer.partitions_for_topic("rolled")  # kafka-python may else assign nothing to the group's leader
    for _ in range(60):
        if consumer.poll(timeout_ms=200):
            consumer.commit()
    consumer.close()


def _wait_until_compacted(partition: Path) -> None:
    """Until the cleaner has replaced segments: fewer bytes than were written."""
    deadline = time.monotonic() + 30
    while sum(path.stat().st_size for path in partition.glob("*.log")) > 100_000:
        assert time.monotonic() < deadline, f"not compacted in 30 s: {sorted(partition.iterdir())}"
        time.sleep(0.1)
