"""Apache Kafka's own tool reads what a broker left on disk, and finds nothing wrong with it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from interop.batches import GZIP, HEADER_SIZE, Record, encode_batch
from interop.conftest import APACHE_KAFKA, PYKBROKER, give_up, start_pykbroker
from interop.group_member import Member
from interop.kafka.jars import MissingToolError, find_libs, find_tool
from interop.kafka.server import ApacheKafka
from interop.kafka.tools import check_index_sanity, dump_log, find_problems, verify_index
from interop.probing import create_topic, init_producer, produce, wait_for_coordinator
from interop.raw import Connection

TOPIC, GROUP = "dumped", "dumped-group"
SEGMENT = "00000000000000000000"


@pytest.fixture(scope="module", params=[APACHE_KAFKA, PYKBROKER])
def log_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of partition folders of a broker that was given something of everything, then stopped."""
    try:
        find_tool("java")
        find_libs()
    except MissingToolError as error:
        give_up(str(error))
    folder = tmp_path_factory.mktemp("data")
    broker: AbstractContextManager[Any]
    broker = ApacheKafka(folder) if request.param == APACHE_KAFKA else start_pykbroker(folder)
    with broker as running, Connection(running.bootstrap) as connection:
        write_everything(connection)
    return folder / "logs" if request.param == APACHE_KAFKA else folder


def write_everything(connection: Connection) -> None:
    """Plain, compressed, idempotent and large batches, and committed offsets of a group with a member."""
    create_topic(connection, TOPIC)
    producer_id = init_producer(connection)
    for sequence in range(30):
        records = [Record(b"x" * 500, b"k%d" % sequence, (("h", b"v"),)) for _ in range(10)]
        plain = encode_batch(records, producer_id=producer_id, producer_epoch=0, sequence=sequence * 10)
        assert produce(connection, TOPIC, plain).error_code == 0
    assert produce(connection, TOPIC, encode_batch(records, codec=GZIP)).error_code == 0
    wait_for_coordinator(connection, GROUP)
    member = Member(connection, GROUP)
    assert member.enter().error_code == 0
    assert member.sync({member.member_id: b""}).error_code == 0
    assert member.commit(TOPIC, 7, metadata="note") == 0


def test_segment(log_dir: Path) -> None:
    """Every record is read."""
    dump = dump_log(log_dir / f"{TOPIC}-0" / f"{SEGMENT}.log")
    assert dump.problems == []
    assert dump.output.count("| offset: ") == 310
    assert "compresscodec: gzip" in dump.output


@pytest.mark.parametrize("check", [verify_index, check_index_sanity, dump_log])
def test_indexes(log_dir: Path, check: Callable[..., Any]) -> None:
    """Offset and time index agree with the segment."""
    partition = log_dir / f"{TOPIC}-0"
    indexes = [partition / f"{SEGMENT}.{kind}" for kind in ("index", "timeindex")]
    assert check(*indexes).problems == []
    assert indexes[0].stat().st_size > 0


def test_producer_snapshot(log_dir: Path) -> None:
    """Written at an orderly stop, named after the next offset."""
    dump = dump_log(log_dir / f"{TOPIC}-0" / f"{310:020}.snapshot")
    assert dump.problems == []
    assert "producerEpoch: 0" in dump.output


def test_offsets_topic(log_dir: Path) -> None:
    """Commits and group metadata are in Kafka's own record format."""
    files = [file for file in log_dir.glob(f"__consumer_offsets-*/{SEGMENT}.log") if file.stat().st_size]
    (file,) = files
    dump = dump_log(file, offsets_decoder=True)
    assert dump.problems == []
    assert f'"group":"{GROUP}","topic":"{TOPIC}","partition":0' in dump.output
    assert '"offset":7' in dump.output
    assert '"protocolType":"consumer"' in dump.output


def test_the_tool_notices_damage(tmp_path: Path) -> None:
    """That nothing was found means something: a wrong CRC, a torn tail and a wrong index are reported."""
    good = encode_batch([Record()] * 3)
    bad = bytearray(good)
    bad[HEADER_SIZE + 5] ^= 1
    segment = tmp_path / f"{SEGMENT}.log"
    try:
        segment.write_bytes(good + bytes(bad))
        assert dump_log(segment).problems
        segment.write_bytes(good + good[:30])
        assert dump_log(segment).problems
        segment.write_bytes(good)
        index = tmp_path / f"{SEGMENT}.index"
        index.write_bytes((77).to_bytes(4) + (20).to_bytes(4))
        assert verify_index(index).problems
    except MissingToolError as error:
        give_up(str(error))


def test_payloads_are_not_taken_for_problems() -> None:
    """A record may say anything."""
    line = "| offset: 0 CreateTime: 1 keySize: 1 valueSize: 9 sequence: -1 headerKeys: [corrupt]"
    assert find_problems(f"{line} key: mismatch payload: isvalid: false") == []
    assert find_problems("baseOffset: 0 count: 1 isvalid: false") != []
