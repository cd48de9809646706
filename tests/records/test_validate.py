"""What a producer may send: one test per row of Kafka's behaviour, with its error code."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.records.batch import HEADER_SIZE, BatchHeader, crc_ok, read_header, seal, write_crc
from pykbroker.records.build import RecordData, encode_batch, encode_marker
from pykbroker.records.compression import Codec, compress
from pykbroker.records.validate import RecordsError, check_produced, check_steps, walk

NOW = 1_700_000_000_000
HOUR = 3_600_000


def batch(*records: RecordData, **options: Any) -> bytearray:
    """A good batch; two records unless given."""
    options.setdefault("timestamp_ms", NOW)
    return bytearray(encode_batch(records or [RecordData(b"k", b"v"), RecordData(None, None)], **options))


def check(records: bytes | bytearray | memoryview | None, **options: Any) -> BatchHeader:
    """``check_produced`` as a topic with defaults would call it."""
    options.setdefault("max_batch_bytes", 1_048_588)
    options.setdefault("api_version", 12)
    return check_produced(records, now_ms=NOW, timestamp_after_max_ms=HOUR, **options)


def code_of(records: bytes | bytearray | memoryview | None, **options: Any) -> ErrorCode:
    """The code that ``records`` are refused with."""
    with pytest.raises(KafkaError) as refused:
        check(records, **options)
    return refused.value.code


@pytest.mark.parametrize("codec", list(Codec))
def test_good_batches_pass(codec: Codec) -> None:
    good = batch(codec=codec)
    assert check(memoryview(good)) == read_header(good)
    assert check(good, compacted=False, log_append=True).record_count == 2


def test_bad_crc() -> None:
    bad = batch()
    bad[-1] ^= 1
    assert code_of(bad) is ErrorCode.CORRUPT_MESSAGE
    bad = batch()
    bad[23] = 0x80  # a flipped bit makes the offset range negative: still the CRC's business
    assert code_of(bad) is ErrorCode.CORRUPT_MESSAGE


def test_nothing_to_append() -> None:
    assert code_of(None) is ErrorCode.INVALID_RECORD
    assert code_of(b"") is ErrorCode.INVALID_RECORD
    assert code_of(bytes(5)) is ErrorCode.INVALID_RECORD


def test_two_batches_for_one_partition() -> None:
    assert code_of(batch() + batch()) is ErrorCode.INVALID_RECORD
    assert code_of(batch() + b"\xff" * 40) is ErrorCode.CORRUPT_MESSAGE
    assert code_of(batch() + bytes(12)) is ErrorCode.CORRUPT_MESSAGE
    assert code_of(batch() + batch()[:16] + b"\x03") is ErrorCode.CORRUPT_MESSAGE


def test_stray_bytes_that_are_no_batch_are_cut_off() -> None:
    for stray in (b"\0", bytes(11), bytes(batch()[:16]), bytes(batch()[:-1])):
        assert check(batch() + stray).size == len(batch())


def test_garbage_shorter_than_a_header_names_the_magic() -> None:
    with pytest.raises(KafkaError, match="magic") as refused:
        check(b"\x7f" * 40)
    assert refused.value.code is ErrorCode.CORRUPT_MESSAGE
    assert code_of(bytes(40)) is ErrorCode.CORRUPT_MESSAGE


def test_cut_short_anywhere() -> None:
    good = batch()
    for length in range(len(good)):
        assert code_of(good[:length]) in (ErrorCode.INVALID_RECORD, ErrorCode.CORRUPT_MESSAGE)


@pytest.mark.parametrize("magic", [0, 1])
def test_older_formats(magic: int) -> None:
    old = batch()
    old[16] = magic
    assert code_of(old) is ErrorCode.INVALID_RECORD


def test_a_magic_to_come() -> None:
    new = batch()
    new[16] = 3
    assert code_of(new) is ErrorCode.CORRUPT_MESSAGE


def test_batch_too_small_for_its_header() -> None:
    small = batch()[:50]
    small[8:12] = (38).to_bytes(4, "big")
    assert code_of(small) is ErrorCode.CORRUPT_MESSAGE


def test_base_offset_must_be_zero() -> None:
    assert code_of(batch(base_offset=5)) is ErrorCode.INVALID_RECORD


@pytest.mark.parametrize(
    ("count", "delta"), [(0, 0), (-1, 1), (1, 1), (3, 1), (2, 2), (2, -1), (2**31 - 1, 1)]
)
def test_count_and_last_offset_delta_disagree(count: int, delta: int) -> None:
    good = batch()
    header = read_header(good)._replace(record_count=count, last_offset_delta=delta)
    assert code_of(seal(header, good[HEADER_SIZE:])) is ErrorCode.INVALID_RECORD


def test_count_and_offsets_agree_on_a_lie() -> None:
    good = batch()
    for count in (1, 3, 2**31 - 1):
        header = read_header(good)._replace(record_count=count, last_offset_delta=count - 1)
        assert code_of(seal(header, good[HEADER_SIZE:])) is ErrorCode.INVALID_RECORD


def test_control_batch_from_a_client() -> None:
    marker = encode_marker(commit=True, producer_id=1, producer_epoch=0, timestamp_ms=NOW)
    assert code_of(marker) is ErrorCode.INVALID_RECORD


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_unknown_codec(codec: int) -> None:
    bad = batch()
    bad[22] |= codec
    write_crc(bad)
    assert code_of(bad) is ErrorCode.UNKNOWN_SERVER_ERROR


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
def test_payload_that_does_not_decompress(codec: Codec) -> None:
    bad = batch()
    bad[22] |= codec
    write_crc(bad)
    assert code_of(bad) is ErrorCode.UNKNOWN_SERVER_ERROR


def test_zstd_before_version_7() -> None:
    good = batch(codec=Codec.ZSTD)
    assert code_of(good, api_version=6) is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert check(good, api_version=7).codec == Codec.ZSTD


def test_size_limit_counts_the_batch_as_sent() -> None:
    good = batch()
    assert check(good, max_batch_bytes=len(good)).size == len(good)
    assert code_of(good, max_batch_bytes=len(good) - 1) is ErrorCode.MESSAGE_TOO_LARGE
    big = batch(RecordData(None, bytes(2_000_000)), codec=Codec.GZIP)
    assert check(big).size == len(big)


def test_decompressed_size_is_bounded() -> None:
    bomb = batch(RecordData(None, bytes(2_000_000)), codec=Codec.ZSTD)
    assert code_of(bomb, max_decompressed=1_000_000) is ErrorCode.MESSAGE_TOO_LARGE


def test_compacted_topic_wants_keys() -> None:
    with pytest.raises(RecordsError, match="rejected") as refused:
        check(batch(RecordData(b"", b"1"), RecordData(None, b"2"), RecordData(None)), compacted=True)
    assert refused.value.code is ErrorCode.INVALID_RECORD
    assert [index for index, _ in refused.value.records] == [1, 2]
    assert "without key" in refused.value.records[0][1]
    assert check(batch(RecordData(b"", None)), compacted=True).record_count == 1


def test_timestamps_too_far_ahead() -> None:
    with pytest.raises(RecordsError) as refused:
        check(batch(RecordData(timestamp_ms=NOW + HOUR), RecordData(timestamp_ms=NOW + HOUR + 1)))
    assert refused.value.code is ErrorCode.INVALID_TIMESTAMP
    assert [index for index, _ in refused.value.records] == [1]


@pytest.mark.parametrize("timestamp", [0, -1, 1, NOW, NOW + HOUR])
def test_old_timestamps_and_none_pass(timestamp: int) -> None:
    assert check(batch(RecordData(timestamp_ms=timestamp))).base_timestamp == timestamp


def test_a_lower_bound_when_the_topic_has_one() -> None:
    old = batch(RecordData(timestamp_ms=NOW), RecordData(timestamp_ms=NOW - HOUR - 1), RecordData())
    assert code_of(old, timestamp_before_max_ms=HOUR) is ErrorCode.INVALID_TIMESTAMP
    assert check(old, timestamp_before_max_ms=HOUR + 1).record_count == 3
    assert check(batch(RecordData(timestamp_ms=-1)), timestamp_before_max_ms=HOUR).record_count == 1


def test_the_first_error_names_the_code() -> None:
    far = NOW + 2 * HOUR
    mixed = batch(RecordData(b"k", timestamp_ms=far), RecordData(None, timestamp_ms=NOW))
    with pytest.raises(RecordsError) as refused:
        check(mixed, compacted=True)
    assert refused.value.code is ErrorCode.INVALID_TIMESTAMP
    assert len(refused.value.records) == 2


def test_append_time_topics_do_not_look_at_timestamps() -> None:
    assert check(batch(RecordData(timestamp_ms=NOW + 9 * HOUR)), log_append=True).record_count == 1


def test_a_producer_must_not_claim_append_time() -> None:
    claimed = batch(log_append=True)
    assert code_of(claimed, log_append=True) is ErrorCode.INVALID_TIMESTAMP
    assert code_of(batch(log_append=True, timestamp_ms=-1)) is ErrorCode.INVALID_TIMESTAMP
    assert code_of(batch(log_append=True, timestamp_ms=NOW + 2 * HOUR)) is ErrorCode.INVALID_TIMESTAMP
    header = check(claimed)
    assert (header.log_append, header.max_timestamp) == (False, NOW)
    assert header == read_header(claimed)
    assert crc_ok(claimed)


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("times", [(1000,), (5, 900, 20_000, 9), (9, 1, 2), (0, 10**9), (5, 4 + 2**40, 1)])
@pytest.mark.parametrize("lie", [0, 77_777])
def test_a_largest_timestamp_that_no_record_has_is_put_right(
    times: tuple[int, ...], compacted: bool, lie: int
) -> None:
    good = batch(*[RecordData(b"k", None, time) for time in times], codec=Codec.GZIP)
    lying = bytearray(seal(read_header(good)._replace(max_timestamp=lie), good[HEADER_SIZE:]))
    header = check(memoryview(lying), compacted=compacted)
    assert header == read_header(lying) == read_header(good)
    assert crc_ok(lying)


def test_all_timestamps_below_the_first_header_field() -> None:
    good = batch(RecordData(timestamp_ms=50), RecordData(timestamp_ms=7))
    payload = good[HEADER_SIZE:]
    payload[2] = 1  # the first record's delta: -1
    lying = bytearray(seal(read_header(good), payload))
    assert check(lying).max_timestamp == 49


@pytest.mark.parametrize("size", [0, 50, 63, 64, 8100, 8191, 8192, 100_000, 1_200_000])
def test_walk_over_all_lengths_of_lengths(size: int) -> None:
    payload = bytes(batch(RecordData(b"k", bytes(size)), RecordData(b"k", bytes(size))))[HEADER_SIZE:]
    assert walk(payload, 2) == 0
    for count, body in ((1, payload), (3, payload), (2, payload[:-1]), (2, payload + b"\0")):
        with pytest.raises(KafkaError) as refused:
            walk(body, count)
        assert refused.value.code is ErrorCode.INVALID_RECORD


@given(
    st.binary(max_size=60), st.integers(1, 6), st.booleans(), st.sampled_from([0, NOW, 2**63 - 1, -(2**63)])
)
def test_garbage_never_raises_anything_else(payload: bytes, count: int, compacted: bool, base: int) -> None:
    header = read_header(batch())._replace(
        record_count=count, last_offset_delta=count - 1, base_timestamp=base
    )
    code = ErrorCode.INVALID_RECORD
    try:
        check(bytearray(seal(header, payload)), compacted=compacted)
    except KafkaError as e:
        code = e.code
    assert code in (ErrorCode.INVALID_RECORD, ErrorCode.INVALID_TIMESTAMP)


def test_timestamps_that_do_not_fit() -> None:
    good = batch(RecordData(timestamp_ms=0), RecordData(timestamp_ms=1))
    top = seal(read_header(good)._replace(base_timestamp=2**63 - 1), good[HEADER_SIZE:])
    with pytest.raises(RecordsError, match="64 bits"):
        check_produced(bytearray(top), max_batch_bytes=1000, api_version=9)


def test_an_understated_largest_timestamp_does_not_help() -> None:
    good = batch(RecordData(timestamp_ms=0), RecordData(timestamp_ms=NOW + 2 * HOUR))
    lying = seal(read_header(good)._replace(max_timestamp=5), good[HEADER_SIZE:])
    with pytest.raises(RecordsError) as refused:
        check(bytearray(lying))
    assert [index for index, _ in refused.value.records] == [1]


@given(st.binary(max_size=120))
def test_raw_garbage_is_refused(data: bytes) -> None:
    assert code_of(data) in (ErrorCode.INVALID_RECORD, ErrorCode.CORRUPT_MESSAGE)


@pytest.mark.parametrize("compacted", [False, True])
def test_large_batches_are_checked_in_slices(compacted: bool) -> None:
    large = batch(*[RecordData(b"k", b"v")] * 10_000)
    steps = check_steps(large, max_batch_bytes=10**7, api_version=9, compacted=compacted)
    yields, header = count_yields(steps)
    assert header == read_header(large)
    assert yields == (9 if compacted else 2)


def count_yields(steps: Generator[None, None, BatchHeader]) -> tuple[int, BatchHeader]:
    """How often ``steps`` gave way, and what it returned."""
    yields = 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return yields, done.value
        yields += 1


def test_compressed_garbage_records() -> None:
    header = read_header(batch(codec=Codec.GZIP))
    bad = seal(header, compress(Codec.GZIP, b"\x01\x02\x03" * 20))
    assert code_of(bad) is ErrorCode.INVALID_RECORD
