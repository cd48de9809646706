"""Produce: what is accepted and refused, and what the answer says (SEMANTICS, sections 2 and 3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import trio

from pykbroker.apis._produce_round import ParkedProduce
from pykbroker.apis._registry import NoAnswer
from pykbroker.apis.produce import SMALL, failed, handle, is_small
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from pykbroker.records.batch import read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.compression import Codec
from tests.partitions.kit import Bench, context

HOUR_MS = 3_600_000
BatchMaker = Callable[..., bytes]


def request_for(
    *parts: tuple[int, bytes | bytearray | None],
    topic: str = "t",
    topic_id: bytes = bytes(16),
    acks: int = -1,
    transactional_id: str | None = None,
) -> ProduceRequest:
    data = [
        PartitionProduceData(index=i, records=None if r is None else memoryview(bytearray(r)))
        for i, r in parts
    ]
    return ProduceRequest(
        acks=acks,
        timeout_ms=1000,
        transactional_id=transactional_id,
        topic_data=[TopicProduceData(name=topic, topic_id=topic_id, partition_data=data)],
    )


async def ask(
    bench: Bench, request: ProduceRequest, version: int = 9, client: str = "test"
) -> list[PartitionProduceResponse]:
    """The answers of the first topic; waits as a connection would."""
    result = handle(context(bench, 0, version, client), request)
    if isinstance(result, ParkedProduce):
        result = await unpark(result)
    elif not isinstance(result, ProduceResponse):
        result = await cast("Awaitable[ProduceResponse]", result)
    assert isinstance(result, ProduceResponse)
    return result.responses[0].partition_responses


async def unpark(parked: ParkedProduce) -> ProduceResponse:
    woken = trio.Event()
    parked.start(woken.set)
    try:
        await woken.wait()
        answer = parked.answer(expired=False)
        assert answer is not None
        return answer
    finally:
        parked.close()


async def one(
    bench: Bench, records: bytes | bytearray | None, version: int = 9, **options: Any
) -> PartitionProduceResponse:
    [answer] = await ask(bench, request_for((0, records), **options), version)
    return answer


@pytest.mark.parametrize("version", range(3, 13))
async def test_appends_in_every_version(bench: Bench, version: int) -> None:
    bench.topic()
    for expected in range(2):
        answer = await one(bench, bench.batch(b"a"), version)
        assert (answer.error_code, answer.base_offset, answer.log_append_time_ms) == (0, expected, -1)
        assert answer.log_start_offset == 0


async def test_version_13_names_topics_by_id(bench: Bench) -> None:
    partition = bench.topic()
    answer = await one(bench, bench.batch(b"a"), 13, topic="", topic_id=partition.topic_id)
    assert (answer.error_code, answer.base_offset) == (0, 0)
    for topic_id in (bytes(16), b"x" * 16):
        answer = await one(bench, bench.batch(b"a"), 13, topic="", topic_id=topic_id)
        assert answer.error_code == ErrorCode.UNKNOWN_TOPIC_ID


async def test_what_is_stored_is_what_came(bench: Bench) -> None:
    partition = bench.topic()
    bench.append(partition, b"first")
    sent = bench.batch(b"a", b"b")
    await one(bench, sent)
    stored = partition.read(1, 1000).records
    assert isinstance(stored, bytes)
    header = read_header(stored)
    assert (header.base_offset, header.leader_epoch) == (1, partition.leader_epoch)
    assert stored[16:] == sent[16:]


async def test_each_partition_is_answered_on_its_own(bench: Bench) -> None:
    bench.catalog.create("t", partitions=2)
    good = bench.batch(b"a")
    bad = bytearray(good)
    bad[-1] ^= 1
    answers = await ask(bench, request_for((0, bad), (1, good), (7, good)))
    assert [a.error_code for a in answers] == [
        ErrorCode.CORRUPT_MESSAGE,
        0,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    assert (answers[0].base_offset, answers[1].base_offset) == (-1, 0)
    assert bench.partitions.get("t", 0).log_end_offset == 0


@pytest.mark.parametrize(
    ("records", "code"),
    [
        (None, ErrorCode.INVALID_RECORD),
        (b"", ErrorCode.INVALID_RECORD),
        (encode_batch([RecordData()], timestamp_ms=0) * 2, ErrorCode.INVALID_RECORD),
        (encode_batch([RecordData()], timestamp_ms=0, control=True), ErrorCode.INVALID_RECORD),
        (b"garbage, not a batch", ErrorCode.CORRUPT_MESSAGE),
    ],
)
async def test_bad_batches(bench: Bench, records: bytes | None, code: ErrorCode) -> None:
    partition = bench.topic()
    answer = await one(bench, records)
    assert (answer.error_code, answer.base_offset, partition.log_end_offset) == (code, -1, 0)


async def test_unknown_topics_are_not_made(bench: Bench) -> None:
    assert (await one(bench, bench.batch(b"a"))).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert "t" not in bench.catalog.image.topics


@pytest.mark.parametrize("acks", [2, -2])
async def test_acks_that_do_not_exist(bench: Bench, acks: int) -> None:
    bench.topic()
    answer = await one(bench, bench.batch(b"a"), acks=acks)
    assert answer.error_code == ErrorCode.INVALID_REQUIRED_ACKS


async def test_acks_0_is_not_answered(bench: Bench) -> None:
    partition = bench.topic()
    with pytest.raises(NoAnswer) as quiet:
        handle(context(bench, 0, 9), request_for((0, bench.batch(b"a")), acks=0))
    assert (quiet.value.close, partition.log_end_offset) == (False, 1)
    with pytest.raises(NoAnswer) as closing:
        handle(context(bench, 0, 9), request_for((0, b""), acks=0))
    assert closing.value.close


async def test_acks_0_large_is_not_answered(bench: Bench) -> None:
    partition = bench.topic()
    result = handle(context(bench, 0, 9), request_for((0, bench.batch(b"x" * SMALL)), acks=0))
    with pytest.raises(NoAnswer):
        await cast("Awaitable[ProduceResponse]", result)
    assert partition.log_end_offset == 1


async def test_internal_topics_are_for_the_broker(bench: Bench) -> None:
    bench.catalog.create("__consumer_offsets", overrides={"cleanup.policy": "delete"})
    bench.catalog.create("__pykbroker_x")
    request = request_for((0, bench.batch(b"a")), topic="__consumer_offsets")
    assert (await ask(bench, request))[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert (await ask(bench, request, client="__admin_client"))[0].error_code == 0
    request = request_for((0, bench.batch(b"a")), topic="__pykbroker_x")
    assert (await ask(bench, request, client="__admin_client"))[
        0
    ].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


async def test_max_message_bytes_counts_the_whole_batch(bench: Bench) -> None:
    batch = bench.batch(b"x" * 100)
    bench.topic(max_message_bytes=str(len(batch)))
    assert (await one(bench, batch)).error_code == 0
    assert (await one(bench, bench.batch(b"x" * 101))).error_code == ErrorCode.MESSAGE_TOO_LARGE


async def test_compacted_topics_want_keys(bench: Bench) -> None:
    bench.topic(cleanup_policy="compact")
    batch = encode_batch(
        [RecordData(key=b"k"), RecordData(), RecordData()], timestamp_ms=bench.clock.time_ms()
    )
    answer = await one(bench, batch)
    assert answer.error_code == ErrorCode.INVALID_RECORD
    assert [e.batch_index for e in answer.record_errors] == [1, 2]
    assert all(e.batch_index_error_message for e in answer.record_errors)


async def test_timestamps_of_the_future_are_refused(bench: Bench) -> None:
    bench.topic()
    now = bench.clock.time_ms()
    answer = await one(bench, bench.batch(b"a", timestamp_ms=now + 2 * HOUR_MS))
    assert answer.error_code == ErrorCode.INVALID_TIMESTAMP
    assert [e.batch_index for e in answer.record_errors] == [0]
    for fine in (now + HOUR_MS // 2, 0, -1):
        assert (await one(bench, bench.batch(b"a", timestamp_ms=fine))).error_code == 0


async def test_log_append_time(bench: Bench) -> None:
    partition = bench.topic(message_timestamp_type="LogAppendTime")
    answer = await one(bench, bench.batch(b"a", timestamp_ms=5))
    assert abs(answer.log_append_time_ms - bench.clock.time_ms()) < 10_000
    stored = partition.read(0, 1000).records
    assert isinstance(stored, bytes)
    header = read_header(stored)
    assert (header.log_append, header.max_timestamp) == (True, answer.log_append_time_ms)
    assert header.base_timestamp == 5


@pytest.mark.parametrize("size", [100, SMALL])
async def test_compression_type_of_the_topic(bench: Bench, size: int) -> None:
    partition = bench.topic(compression_type="gzip")
    answer = await one(bench, bench.batch(b"a" * size, b"b" * size))
    assert (answer.error_code, answer.base_offset) == (0, 0)
    stored = partition.read(0, 1 << 20).records
    assert isinstance(stored, bytes)
    header = read_header(stored)
    assert (header.codec, header.record_count, len(stored) < 2 * size) == (Codec.GZIP, 2, True)


async def test_zstd_needs_version_7(bench: Bench) -> None:
    bench.topic()
    batch = bench.batch(b"a", codec=Codec.ZSTD)
    assert (await one(bench, batch, 6)).error_code == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert (await one(bench, batch, 7)).error_code == 0


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("count", [1, 3000])
async def test_codecs_small_and_large(bench: Bench, codec: Codec, count: int) -> None:
    partition = bench.topic()
    records = [RecordData(key=b"%d" % (i * 7919), value=b"%d" % (i**3 * 7)) for i in range(count)]
    batch = encode_batch(records, timestamp_ms=bench.clock.time_ms(), codec=codec)
    assert (await one(bench, batch)).error_code == 0
    assert partition.log_end_offset == count


async def test_large_batches_are_checked_as_well(bench: Bench) -> None:
    partition = bench.topic()
    batch = bytearray(bench.batch(b"x" * SMALL))
    batch[100] ^= 1
    assert (await one(bench, batch)).error_code == ErrorCode.CORRUPT_MESSAGE
    assert partition.log_end_offset == 0


def test_what_is_small() -> None:
    def batch(count: int, size: int, codec: Codec) -> bytes:
        return encode_batch([RecordData(value=b"x" * size)] * count, timestamp_ms=0, codec=codec)

    assert is_small(None)
    assert is_small(b"too short for a header")
    assert is_small(batch(1, SMALL - 100, Codec.NONE))
    assert not is_small(batch(1, SMALL, Codec.NONE))
    assert is_small(batch(5000, 1, Codec.GZIP))
    assert not is_small(batch(5001, 1, Codec.GZIP)), "however well they compress"


def idempotent(bench: Bench, sequence: int, count: int = 1, epoch: int = 0) -> bytes:
    return bench.batch(*[b"v"] * count, producer_id=7, producer_epoch=epoch, base_sequence=sequence)


async def test_a_repeated_batch_gets_its_old_offset(bench: Bench) -> None:
    partition = bench.topic()
    for sequence in range(6):
        await one(bench, idempotent(bench, sequence))
    for sequence in range(1, 6):
        answer = await one(bench, idempotent(bench, sequence))
        assert (answer.error_code, answer.base_offset) == (0, sequence)
    answer = await one(bench, idempotent(bench, 0))
    assert answer.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, "the sixth back"
    assert partition.log_end_offset == 6


@pytest.mark.parametrize(
    ("sequence", "epoch", "code"),
    [
        (5, 0, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        (1, 1, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        (0, 1, ErrorCode.NONE),
        (-1, 0, ErrorCode.INVALID_RECORD),
        (1, -1, ErrorCode.INVALID_PRODUCER_EPOCH),
    ],
)
async def test_sequences(bench: Bench, sequence: int, epoch: int, code: ErrorCode) -> None:
    bench.topic()
    await one(bench, idempotent(bench, 0))
    assert (await one(bench, idempotent(bench, sequence, epoch=epoch))).error_code == code


async def test_transactions_are_refused(bench: Bench) -> None:
    bench.topic()
    batch = bench.batch(b"a", producer_id=7, producer_epoch=0, base_sequence=0, transactional=True)
    answer = await one(bench, batch)
    assert answer.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    answer = await one(bench, batch, transactional_id="x")
    assert answer.error_code == ErrorCode.INVALID_TXN_STATE


@pytest.mark.parametrize("acks", [-1, 1])
async def test_flush_messages_holds_the_acknowledgement(bench: Bench, acks: int) -> None:
    partition = bench.topic(flush_messages="1")
    result = handle(context(bench, 0, 9), request_for((0, bench.batch(b"a")), acks=acks))
    assert isinstance(result, ParkedProduce)
    assert (partition.high_watermark, partition.log_end_offset) == (0, 1)
    answer = (await unpark(result)).responses[0].partition_responses[0]
    assert (answer.error_code, answer.base_offset, partition.high_watermark) == (0, 0, 1)
    assert partition.log.recovery_point == 1


async def test_a_wait_that_expires(bench: Bench) -> None:
    bench.topic(flush_messages="1")
    result = handle(context(bench, 0, 9), request_for((0, bench.batch(b"a"))))
    assert isinstance(result, ParkedProduce)
    result.start(lambda: None)
    answer = result.answer(expired=True)
    result.close()
    assert answer is not None
    assert answer.responses[0].partition_responses[0].error_code == ErrorCode.REQUEST_TIMED_OUT


async def test_a_topic_deleted_meanwhile(bench: Bench) -> None:
    bench.topic(flush_messages="1")
    result = handle(context(bench, 0, 9), request_for((0, bench.batch(b"a"))))
    assert isinstance(result, ParkedProduce)
    woken: list[bool] = []
    result.start(lambda: woken.append(True))
    bench.catalog.delete("t")
    assert woken
    answer = result.answer(expired=False)
    result.close()
    assert answer is not None
    assert answer.responses[0].partition_responses[0].error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_failed_names_every_partition(bench: Bench) -> None:
    ctx = context(bench, 0, 9)
    response = failed(ctx, request_for((0, b""), (3, b"")), ErrorCode.UNKNOWN_SERVER_ERROR)
    assert [(p.index, p.error_code) for p in response.responses[0].partition_responses] == [(0, -1), (3, -1)]
    with pytest.raises(NoAnswer):
        failed(ctx, request_for((0, b""), acks=0), ErrorCode.UNKNOWN_SERVER_ERROR)
