"""Produce (API key 0), versions 3 to 13.

5 log start offset, 7 zstd (KIP-110), 8 per-record errors (KIP-467), 10 current leader in the answer
(KIP-951), 12 implicit partitions of a transaction (KIP-890), 13 topic ids (KIP-516).  ApiVersions
announces 0 as the lowest version: librdkafka turns compression off otherwise (apache/kafka#18727).

Each partition is checked, appended and answered on its own.  The append is synchronous; acks=all and
acks=1 both wait for the high watermark, which stands still only for ``flush.messages``: a flush that an
append has to wait for in Kafka, too.  Batches that would hold up the loop for more than about a
millisecond are checked in an awaitable instead, in slices, compressed ones in a thread.

On purpose different from Kafka 4.3.1: null records are answered with INVALID_RECORD (Kafka never
answers).  Not here yet: transactions (a transactional batch is refused with
TRANSACTIONAL_ID_AUTHORIZATION_FAILED when no transactional id is named, INVALID_TXN_STATE otherwise).
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator

import trio

from pykbroker.apis._produce_forwarding import check_routable, doors_of, landed, landing
from pykbroker.apis._produce_plugins import admitted, appended_event
from pykbroker.apis._produce_round import ParkedProduce, Round
from pykbroker.apis._registry import NoAnswer, Parked, RequestContext, api
from pykbroker.catalog.image import HIDDEN_PREFIX, INTERNAL
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.partitions.partition import Partition
from pykbroker.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from pykbroker.protocol.schema import Records
from pykbroker.records.batch import ATTRIBUTES_OFFSET, CODEC_MASK, HEADER_SIZE, BatchHeader, read_header
from pykbroker.records.validate import check_steps

TOPIC_IDS_SINCE = 13
SMALL = 64 * 1024
"""Bytes of an uncompressed batch that are checked at once: about a millisecond of tiny records."""
SMALL_COMPRESSED = 16 * 1024
"""The same for compressed batches, which may hold many times their size."""
FEW = 5000
"""Records of a compressed batch that are looked at in a millisecond."""
ACKS = (-1, 0, 1)
ADMIN_CLIENT = "__admin_client"
"""Client id that may write to internal topics (Kafka's AdminUtils)."""
NO_BOUND = (1 << 63) - 1
"""What a timestamp bound is when there is none."""

Buffer = bytes | bytearray | memoryview
Steps = Generator[None, None, BatchHeader]


def failed(ctx: RequestContext, request: ProduceRequest, code: ErrorCode) -> ProduceResponse:
    """Every partition that was named, with ``code``; with acks=0 the connection is closed instead."""
    if request.acks == 0:
        raise NoAnswer(close=True)
    produced = Round()
    for topic in request.topic_data:
        answers = produced.topic(topic)
        for data in topic.partition_data:
            answers.append(produced.refused(data.index, KafkaError(code), None))
    return produced.response


@api(ProduceRequest, ProduceResponse, failed=failed, announced_min=0)
def handle(
    ctx: RequestContext, request: ProduceRequest
) -> ProduceResponse | Parked[ProduceResponse] | Awaitable[ProduceResponse]:
    """Append what came for each partition."""
    plugged, doors = ctx.services.admission, doors_of(ctx)
    for topic in request.topic_data:
        if (plugged or doors) and ((key := topic_key(ctx, topic)) in plugged or key in doors):
            return _handle_slowly(ctx, request)
        for data in topic.partition_data:
            if not is_small(data.records):
                return _handle_slowly(ctx, request)
    produced = Round()
    for topic in request.topic_data:
        answers = produced.topic(topic)
        for data in topic.partition_data:
            partition: Partition | None = None
            try:
                partition = find(ctx, request, topic, data.index)
                steps = steps_of(ctx, partition, data)
                while (header := _step(steps)) is None:
                    pass
                answers.append(_append(ctx, request, produced, partition, data, header))
            except KafkaError as error:
                answers.append(produced.refused(data.index, error, partition))
    if request.acks == 0:
        raise NoAnswer(close=produced.failed)
    if produced.pending:
        return ParkedProduce(produced, ctx.now + max(0, request.timeout_ms) / 1000)
    return produced.response


async def _handle_slowly(ctx: RequestContext, request: ProduceRequest) -> ProduceResponse:
    """As :func:`handle`, with checks that do not hold up the loop, and with the topics' plugins."""
    produced = Round()
    for topic in request.topic_data:
        answers = produced.topic(topic)
        for data in topic.partition_data:
            partition: Partition | None = None
            try:
                partition = find(ctx, request, topic, data.index)
                header = await _check_slowly(ctx, partition, data)
                where = landing(ctx, partition)
                if ctx.services.admission:
                    came, data = data, await admitted(ctx, topic_key(ctx, topic), where, data, header)
                    if data is not came:
                        header = await _check_slowly(ctx, partition, data)
                if topic_key(ctx, topic) in doors_of(ctx):
                    await check_routable(ctx, partition, data, header)
                if where.needs_recoding(header):
                    records = await trio.to_thread.run_sync(partition.recode, buffer(data))
                    data = PartitionProduceData(index=data.index, records=records)
                    header = read_header(records)
                partition = find(ctx, request, topic, data.index)  # it may be gone by now
                answers.append(_append(ctx, request, produced, partition, data, header))
            except KafkaError as error:
                answers.append(produced.refused(data.index, error, partition))
    if request.acks == 0:
        raise NoAnswer(close=produced.failed)
    if produced.pending:
        await produced.wait(max(0, request.timeout_ms) / 1000)
    return produced.response


def is_small(records: Records | None) -> bool:
    """Whether these records are checked in about a millisecond."""
    if records is None or len(records) < HEADER_SIZE or not isinstance(records, Buffer):
        return True
    if not records[ATTRIBUTES_OFFSET + 1] & CODEC_MASK:
        return len(records) <= SMALL
    count = int.from_bytes(records[HEADER_SIZE - 4 : HEADER_SIZE], "big")  # the header's last field
    return len(records) <= SMALL_COMPRESSED and count <= FEW


def topic_key(ctx: RequestContext, topic: TopicProduceData) -> str | bytes:
    """What this request calls the topic: its name or its id."""
    return topic.topic_id if ctx.version >= TOPIC_IDS_SINCE else topic.name


def buffer(data: PartitionProduceData) -> Buffer:
    """The record bytes of a request, which always are in memory."""
    assert isinstance(data.records, Buffer)
    return data.records


def find(ctx: RequestContext, request: ProduceRequest, topic: TopicProduceData, index: int) -> Partition:
    """The partition to append to, if this request may append to it at all."""
    if ctx.version >= TOPIC_IDS_SINCE:
        partition = ctx.services.partitions.get_by_id(topic.topic_id, index)
    else:
        partition = ctx.services.partitions.get(topic.name, index)
    if request.acks not in ACKS:
        raise KafkaError(ErrorCode.INVALID_REQUIRED_ACKS)
    name = partition.topic
    if name.startswith("__") and (
        name.startswith(HIDDEN_PREFIX) or (name in INTERNAL and ctx.client_id != ADMIN_CLIENT)
    ):
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Cannot append to internal topic {name}")
    if request.acks == -1 and partition.under_min_isr:
        raise KafkaError(ErrorCode.NOT_ENOUGH_REPLICAS)
    return partition


def steps_of(ctx: RequestContext, partition: Partition, data: PartitionProduceData) -> Steps:
    """The structural check of what came for ``partition``, with the topic's settings."""
    config = partition.config
    before, after = config.message_timestamp_before_max_ms, config.message_timestamp_after_max_ms
    return check_steps(
        None if data.records is None else buffer(data),
        max_batch_bytes=config.max_message_bytes,
        api_version=ctx.version,
        now_ms=ctx.now_ms,
        compacted=config.compacted,
        log_append=config.message_timestamp_type == "LogAppendTime",
        timestamp_before_max_ms=None if before == NO_BOUND else before,
        timestamp_after_max_ms=None if after == NO_BOUND else after,
        max_decompressed=ctx.services.config.pykbroker_max_decompressed_bytes,
    )


def _step(steps: Steps) -> BatchHeader | None:
    """One slice of a check; the header at the end."""
    try:
        next(steps)
    except StopIteration as done:
        header: BatchHeader = done.value
        return header
    return None


async def _check_slowly(ctx: RequestContext, partition: Partition, data: PartitionProduceData) -> BatchHeader:
    """The check in slices; decompression, which is part of the first, in a thread."""
    steps = steps_of(ctx, partition, data)
    records = buffer(data) if data.records is not None else b""
    if len(records) >= HEADER_SIZE and records[ATTRIBUTES_OFFSET + 1] & CODEC_MASK:
        header = await trio.to_thread.run_sync(_step, steps)
    else:
        header = _step(steps)
    while header is None:
        await trio.lowlevel.checkpoint()
        header = _step(steps)
    return header


def _append(
    ctx: RequestContext,
    request: ProduceRequest,
    produced: Round,
    partition: Partition,
    data: PartitionProduceData,
    header: BatchHeader,
) -> PartitionProduceResponse:
    if header.is_transactional:
        if request.transactional_id is None:
            raise KafkaError(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        raise KafkaError(ErrorCode.INVALID_TXN_STATE, "transactions are not supported yet")
    batch = memoryview(buffer(data))[: header.size]  # a few stray bytes behind it are legal, and cut off
    if partition.is_face and (where := landing(ctx, partition)) is not partition:
        appended = where.append_as_leader(batch, (header,), now_ms=ctx.now_ms)
        return landed(produced.appended(data.index, where, appended))
    appended = partition.append_as_leader(batch, (header,), now_ms=ctx.now_ms)
    if (tell := ctx.services.on_appended) is not None and not appended.duplicate:
        tell(appended_event(ctx, partition, header, appended))
    return produced.appended(data.index, partition, appended)
