"""The seam between Produce and the plugins of a topic: see :mod:`pykbroker.partitions.admission`."""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.events import RecordsAppended
from pykbroker.partitions.admission import Origin
from pykbroker.partitions.partition import Appended, Partition
from pykbroker.protocol.messages.produce import PartitionProduceData
from pykbroker.records.batch import BatchHeader

TRIES = 3
"""How often a batch is looked at anew because the topic's settings changed while a plugin waited."""


async def admitted(
    ctx: RequestContext,
    topic: str | bytes,
    partition: Partition,
    data: PartitionProduceData,
    header: BatchHeader,
) -> PartitionProduceData:
    """``data`` as the plugins of ``topic`` (name or id) let it in: the same object, or a changed batch,
    which must be checked like one that came from a client.

    A batch that was appended before is not shown to plugins again: what they say may have changed, the
    answer may not.  Raises :class:`KafkaError`, of sequences and of plugins.
    """
    pipelines = ctx.services.admission
    assert isinstance(data.records, bytes | bytearray | memoryview)
    for _ in range(TRIES):
        pipeline = pipelines.get(topic)
        if pipeline is None or _is_duplicate(partition, header):
            return data
        origin = Origin(
            topic=pipeline.topic, partition=data.index, client_id=ctx.client_id, now_ms=ctx.now_ms
        )
        records = await pipeline.admit(origin, memoryview(data.records)[: header.size], header)
        if pipelines.get(topic) is pipeline:
            return data if records is None else PartitionProduceData(index=data.index, records=records)
    raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "the topic's settings keep changing")


def _is_duplicate(partition: Partition, header: BatchHeader) -> bool:
    return header.producer_id >= 0 and partition.log.producers.check(header) is not None


def appended_event(
    ctx: RequestContext, partition: Partition, header: BatchHeader, appended: Appended
) -> RecordsAppended:
    """What event hooks are told of an append."""
    stamped = appended.log_append_time_ms
    return RecordsAppended(
        topic=partition.topic,
        partition=partition.index,
        base_offset=appended.base_offset,
        last_offset=appended.last_offset,
        size=header.size,
        timestamp_ms=header.max_timestamp if stamped == -1 else stamped,
        client_id=ctx.client_id,
    )
