"""Probes: what Produce accepts, refuses, and stores."""

import uuid
from collections.abc import Callable

import pytest

from interop import batches
from interop.batches import GZIP, Record, batch_of_size, decode_batches, encode_batch, now_ms
from interop.conftest import Broker
from interop.probing import create_topic, fetch, produce, produce_request, unique
from interop.raw import Connection

HOUR_MS = 3_600_000
DEFAULT_MAX_MESSAGE_BYTES = 1_048_588


def make_topic(connection: Connection, **configs: str) -> str:
    """A topic with these configs; underscores in their names stand for dots."""
    name = unique("produce")
    create_topic(connection, name, configs={key.replace("_", "."): value for key, value in configs.items()})
    return name


@pytest.mark.parametrize("version", range(3, 13))
def test_every_version(connection: Connection, topic: str, version: int) -> None:
    """Versions 3 to 12 take names and answer with the base offset; CreateTime topics say -1 for the append
    time."""
    for expected in range(2):
        part = produce(connection, topic, version=version)
        assert (part.error_code, part.base_offset, part.log_append_time) == (0, expected, None)


def test_version_13_takes_topic_ids(connection: Connection) -> None:
    """The id instead of the name, in request and answer."""
    topic_id = create_topic(connection, unique("by-id"))
    partition = {"index": 0, "records": encode_batch()}
    answer = connection.ask(
        "produce",
        13,
        acks=-1,
        timeout=5000,
        topic_data=[{"topic_id": topic_id, "partition_data": [partition]}],
    )
    assert answer.responses[0].topic_id == topic_id
    assert answer.responses[0].partition_responses[0].error_code == 0


@pytest.mark.parametrize("topic_id", [None, uuid.UUID(int=0xDEADBEEF << 64)], ids=["zero", "unknown"])
def test_unknown_topic_id(connection: Connection, topic_id: uuid.UUID | None) -> None:
    """100 UNKNOWN_TOPIC_ID."""
    data = {"topic_id": topic_id, "partition_data": [{"index": 0, "records": encode_batch()}]}
    answer = connection.ask("produce", 13, acks=-1, timeout=5000, topic_data=[data])
    assert answer.responses[0].partition_responses[0].error_code == 100


def test_bad_crc(connection: Connection, topic: str) -> None:
    """2 CORRUPT_MESSAGE, nothing appended."""
    assert produce(connection, topic, encode_batch(crc=1)).error_code == 2
    assert produce(connection, topic).base_offset == 0


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(encode_batch() + encode_batch(), id="two-batches"),
        pytest.param(b"", id="empty"),
        pytest.param(encode_batch(magic=1), id="magic-1"),
        pytest.param(encode_batch(attributes=batches.CONTROL_BIT), id="control-batch"),
        pytest.param(encode_batch(count=2), id="count-too-large"),
        pytest.param(encode_batch([Record(), Record()], count=1), id="count-too-small"),
        pytest.param(encode_batch(last_offset_delta=1), id="last-offset-delta"),
        pytest.param(encode_batch([]), id="no-records"),
    ],
)
def test_invalid_record(connection: Connection, topic: str, records: bytes) -> None:
    """87 INVALID_RECORD, nothing appended."""
    assert produce(connection, topic, records).error_code == 87
    assert produce(connection, topic).base_offset == 0


def test_magic_above_2(connection: Connection, topic: str) -> None:
    """2 CORRUPT_MESSAGE: unlike magic 0 and 1 it is no format that ever was."""
    assert produce(connection, topic, encode_batch(magic=3)).error_code == 2


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        pytest.param(b"garbage", 87, id="short"),
        pytest.param(b"\0" * 10, 87, id="no-length-field"),
        pytest.param(b"x" * 16, 87, id="no-magic-byte"),
        pytest.param(b"x" * 17, 2, id="unknown-magic-byte"),
        pytest.param(b"\0" * 40, 2, id="length-0"),
        pytest.param(b"\x01" * 20, 87, id="magic-1-but-cut-off"),
        pytest.param(encode_batch()[:-1], 87, id="cut-off"),
        pytest.param(encode_batch()[:40], 87, id="cut-off-in-the-header"),
        pytest.param(encode_batch(length=0), 2, id="lying-length-0"),
        pytest.param(encode_batch(length=-1), 2, id="lying-length-negative"),
        pytest.param(encode_batch(length=50), 2, id="lying-length-short"),
        pytest.param(encode_batch(length=1 << 20), 87, id="lying-length-long"),
        pytest.param(encode_batch() + b"\0" * 12, 2, id="trailing-length-0"),
    ],
)
def test_garbage(connection: Connection, topic: str, records: bytes, expected: int) -> None:
    """Kafka reads the length, then the magic byte at 16, then looks whether the batch is there to its end.

    What is not a whole batch is no batch (87, "no batches"); a length below 14, an unknown magic byte, or
    bytes that do not fit the CRC are 2 CORRUPT_MESSAGE."""
    assert produce(connection, topic, records).error_code == expected
    assert produce(connection, topic).base_offset == 0


def test_stray_bytes_behind_a_batch_are_cut_off(connection: Connection, topic: str) -> None:
    """Up to 11 bytes, too few to hold a length field, are accepted by Kafka and not stored."""
    sent = encode_batch()
    assert produce(connection, topic, sent + b"\0" * 11).error_code == 0
    assert fetch(connection, topic).records[16:] == sent[16:]


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(encode_batch(attributes=5, payload=b"\0" * 10), id="codec-5"),
        pytest.param(encode_batch(attributes=GZIP, payload=b"this is no gzip"), id="not-gzip"),
    ],
)
def test_codec_that_cannot_be_read(connection: Connection, topic: str, records: bytes) -> None:
    """-1 from Apache Kafka, whose exception escapes; 87 INVALID_RECORD would be the kinder answer, both are
    legal here."""
    assert produce(connection, topic, records).error_code in (-1, 87)
    assert produce(connection, topic).base_offset == 0


def test_record_lengths_that_do_not_fit(connection: Connection, topic: str) -> None:
    """The header is right, the record inside claims to be longer than the batch."""
    assert produce(connection, topic, encode_batch(payload=b"\x7f\0\0\0\0\0\0")).error_code == 87


def test_bytes_behind_the_last_record(connection: Connection, topic: str) -> None:
    """One record as announced, then something else."""
    good = encode_batch()
    payload = good[batches.HEADER_SIZE :] + b"\0\0\0"
    assert produce(connection, topic, encode_batch(payload=payload)).error_code == 87


@pytest.mark.parametrize(("version", "expected"), [(6, 76), (7, 0)])
def test_zstd_needs_version_7(connection: Connection, topic: str, version: int, expected: int) -> None:
    """76 UNSUPPORTED_COMPRESSION_TYPE below."""
    import cramjam

    plain = encode_batch()[batches.HEADER_SIZE :]
    batch = encode_batch(codec=batches.ZSTD, payload=bytes(cramjam.zstd.compress(plain)))
    assert produce(connection, topic, batch, version=version).error_code == expected


@pytest.mark.parametrize("acks", [2, -2, 100])
def test_other_acks(connection: Connection, topic: str, acks: int) -> None:
    """21 INVALID_REQUIRED_ACKS."""
    assert produce(connection, topic, acks=acks).error_code == 21


def test_acks_1(connection: Connection, topic: str) -> None:
    """Answered like all."""
    part = produce(connection, topic, acks=1)
    assert (part.error_code, part.base_offset, part.log_start_offset) == (0, 0, 0)


def test_unknown_topic_is_not_created(connection: Connection) -> None:
    """3, however often: Produce never creates topics."""
    name = unique("missing")
    assert [produce(connection, name).error_code for _ in range(2)] == [3, 3]


def test_unknown_partition_beside_a_known_one(connection: Connection, topic: str) -> None:
    """3 for the one, success for the other; a negative number is just unknown."""
    request = produce_request(topic)
    request["topic_data"][0]["partition_data"] += [
        {"index": index, "records": encode_batch()} for index in (7, -1)
    ]
    answer = connection.ask("produce", 9, **request)
    codes = {part.index: part.error_code for part in answer.responses[0].partition_responses}
    assert codes == {0: 0, 7: 3, -1: 3}


def test_invalid_topic_name(connection: Connection) -> None:
    """3 like any unknown one, not 17."""
    assert produce(connection, "no/such name").error_code == 3


@pytest.mark.parametrize(
    ("size", "expected"), [(DEFAULT_MAX_MESSAGE_BYTES, 0), (DEFAULT_MAX_MESSAGE_BYTES + 1, 10)]
)
def test_default_size_limit(connection: Connection, topic: str, size: int, expected: int) -> None:
    """max.message.bytes holds for the batch as sent, header included: 10 MESSAGE_TOO_LARGE from one byte
    more."""
    assert produce(connection, topic, batch_of_size(size)).error_code == expected


@pytest.mark.parametrize(("size", "expected"), [(1000, 0), (1001, 10)])
def test_topic_size_limit(connection: Connection, size: int, expected: int) -> None:
    """The topic's own limit."""
    topic = make_topic(connection, max_message_bytes="1000")
    assert produce(connection, topic, batch_of_size(size)).error_code == expected


def test_null_records(broker: Broker, connect: Callable[[], Connection], topic: str) -> None:
    """Apache Kafka never answers this request; pykbroker says 87 INVALID_RECORD."""
    connection = connect()
    pending = connection.post(
        "produce",
        9,
        acks=-1,
        timeout=1000,
        topic_data=[{"name": topic, "partition_data": [{"index": 0, "records": None}]}],
    )
    if broker.name == "apache-kafka":
        assert connection.is_silent(within=1.5)
    else:
        assert connection.collect(pending).responses[0].partition_responses[0].error_code == 87


def test_compacted_topic_refuses_records_without_key(connection: Connection) -> None:
    """The whole batch, with the index of each offending record."""
    topic = make_topic(connection, cleanup_policy="compact")
    part = produce(connection, topic, encode_batch([Record(key=b"k"), Record(), Record(key=b"k"), Record()]))
    assert part.error_code == 87
    assert [error.batch_index for error in part.record_errors] == [1, 3]
    assert all(error.batch_index_error_message for error in part.record_errors)
    assert produce(connection, topic, encode_batch([Record(key=b"k")])).base_offset == 0


def test_timestamp_too_far_ahead(connection: Connection, topic: str) -> None:
    """32 INVALID_TIMESTAMP when more than an hour ahead, naming the record; shortly below is fine."""
    ahead = Record(timestamp=now_ms() + HOUR_MS + 60_000)
    part = produce(connection, topic, encode_batch([Record(), ahead]))
    assert part.error_code == 32
    assert [error.batch_index for error in part.record_errors] == [1]
    within = Record(timestamp=now_ms() + HOUR_MS - 60_000)
    assert produce(connection, topic, encode_batch([within])).error_code == 0


@pytest.mark.parametrize("timestamp", [-1, 0, 1], ids=["none", "1970", "one"])
def test_old_timestamps(connection: Connection, topic: str, timestamp: int) -> None:
    """Accepted: there is no limit into the past by default."""
    assert produce(connection, topic, encode_batch([Record(timestamp=timestamp)])).error_code == 0


def test_log_append_time(connection: Connection) -> None:
    """The answer says the broker's time; in the stored header only attribute bit 3, the maximum timestamp and
    the CRC change, while the base timestamp stays as sent."""
    topic = make_topic(connection, message_timestamp_type="LogAppendTime")
    before = now_ms()
    sent = encode_batch([Record(timestamp=1000), Record(timestamp=2000)])
    part = produce(connection, topic, sent)
    assert part.error_code == 0
    assert before - 1000 <= part.log_append_time <= now_ms() + 1000
    (stored,) = decode_batches(fetch(connection, topic).records)
    assert stored.attributes == batches.TIMESTAMP_TYPE_BIT
    assert (stored.base_timestamp, stored.max_timestamp) == (1000, part.log_append_time)
    assert stored.is_crc_right
    assert stored.data[batches.HEADER_SIZE :] == sent[batches.HEADER_SIZE :]


def test_log_append_time_takes_any_timestamp(connection: Connection) -> None:
    """What the client said does not matter there, so it cannot be too far ahead."""
    topic = make_topic(connection, message_timestamp_type="LogAppendTime")
    ahead = encode_batch([Record(timestamp=now_ms() + 10 * HOUR_MS)])
    assert produce(connection, topic, ahead).error_code == 0


def test_stored_bytes_are_the_sent_bytes(connection: Connection, topic: str) -> None:
    """Only base offset and partition leader epoch are written, both in front of what the CRC covers."""
    produce(connection, topic)
    sent = encode_batch([Record(b"v", b"k", (("h", b"1"), ("h", None)), 5)], leader_epoch=9)
    assert produce(connection, topic, sent).base_offset == 1
    (stored,) = decode_batches(fetch(connection, topic, 1).records)
    assert (stored.base_offset, stored.leader_epoch) == (1, 0)
    assert stored.data[16:] == sent[16:]


@pytest.mark.parametrize("base_offset", [1, -1])
def test_base_offset_of_a_client_must_be_0(connection: Connection, topic: str, base_offset: int) -> None:
    """87 INVALID_RECORD, although the field is overwritten anyway."""
    assert produce(connection, topic, encode_batch(base_offset=base_offset)).error_code == 87


def test_timestamp_type_of_a_client_is_cleared(connection: Connection, topic: str) -> None:
    """The LogAppendTime bit on a topic with CreateTime: accepted, stored without it."""
    sent = encode_batch([Record(timestamp=5)], attributes=batches.TIMESTAMP_TYPE_BIT)
    assert produce(connection, topic, sent).error_code == 0
    (stored,) = decode_batches(fetch(connection, topic).records)
    assert (stored.attributes, stored.max_timestamp) == (0, 5)
    assert stored.is_crc_right


def test_unknown_attribute_bits_are_kept(connection: Connection, topic: str) -> None:
    """Bit 6 has no meaning (yet): accepted and stored."""
    assert produce(connection, topic, encode_batch(attributes=0x40)).error_code == 0
    (stored,) = decode_batches(fetch(connection, topic).records)
    assert stored.attributes == 0x40


def test_gzip_is_stored_as_sent(connection: Connection, topic: str) -> None:
    """With compression.type=producer nothing is re-encoded."""
    sent = encode_batch([Record(b"x" * 500)] * 3, codec=GZIP)
    assert produce(connection, topic, sent).error_code == 0
    (stored,) = decode_batches(fetch(connection, topic).records)
    assert stored.data[16:] == sent[16:]


def test_topic_with_its_own_codec(connection: Connection) -> None:
    """compression.type=gzip: the batch is re-encoded, smaller, with the same records and offsets."""
    topic = make_topic(connection, compression_type="gzip")
    records = [Record(b"x" * 500, b"k", (("h", b"v"),), 1000 + index) for index in range(3)]
    sent = encode_batch(records)
    assert produce(connection, topic, sent).error_code == 0
    (stored,) = decode_batches(fetch(connection, topic).records)
    assert stored.codec == GZIP
    assert len(stored.data) < len(sent)
    assert (stored.record_count, stored.last_offset_delta) == (3, 2)
    assert stored.is_crc_right
    assert stored.records() == records


def test_uncompressed_topic(connection: Connection) -> None:
    """compression.type=uncompressed undoes the producer's compression."""
    topic = make_topic(connection, compression_type="uncompressed")
    produce(connection, topic, encode_batch([Record(b"x" * 500, timestamp=1)], codec=GZIP))
    (stored,) = decode_batches(fetch(connection, topic).records)
    assert stored.codec == batches.NONE
    assert stored.records() == [Record(b"x" * 500, timestamp=1)]


def test_min_insync_replicas_above_the_replica_count(connection: Connection) -> None:
    """The effective minimum is capped by the number of replicas, so acks=all succeeds on one replica."""
    topic = make_topic(connection, min_insync_replicas="2")
    assert produce(connection, topic, acks=-1).error_code == 0


def test_wrong_maximum_timestamp_is_corrected(connection: Connection, topic: str) -> None:
    """A max timestamp in the header that no record has."""
    sent = encode_batch([Record(timestamp=1000)], max_timestamp=5000)
    assert produce(connection, topic, sent).error_code == 0
    (stored,) = decode_batches(fetch(connection, topic).records)
    assert stored.max_timestamp == 1000
    assert stored.is_crc_right


def test_many_partitions_in_one_request(connection: Connection) -> None:
    """Each partition is answered."""
    topic = unique("wide")
    create_topic(connection, topic, partitions=5)
    request = produce_request(topic)
    request["topic_data"][0]["partition_data"] = [
        {"index": index, "records": encode_batch()} for index in range(5)
    ]
    answer = connection.ask("produce", 9, **request)
    codes = [(part.index, part.error_code) for part in answer.responses[0].partition_responses]
    assert sorted(codes) == [(index, 0) for index in range(5)]


def test_no_topics(connection: Connection) -> None:
    """An empty request is answered with an empty answer."""
    assert connection.ask("produce", 9, acks=-1, timeout=1000, topic_data=[]).responses == []
