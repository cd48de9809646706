"""The seam between Produce and forwarding: see :mod:`pykbroker.forwarding`.

What is produced to a topic with a partitioner lands in its ingress log, and what is produced to a topic that
delays or to a retry topic in its delayed log; the sequences there count, and the answer says offset -1:
where the records will be is not known yet.  An exchange is appended to like any
topic; one with ``pykbroker.exchange.unroutable=error`` looks at what comes first.
"""

from __future__ import annotations

from collections.abc import Collection

import trio

from pykbroker.apis._registry import RequestContext
from pykbroker.partitions.partition import Partition
from pykbroker.protocol.messages.produce import PartitionProduceData, PartitionProduceResponse
from pykbroker.records.batch import BatchHeader


def landing(ctx: RequestContext, face: Partition) -> Partition:
    """The partition to which what is produced to ``face`` is appended.  Raises :class:`KafkaError`."""
    if face.is_face and ctx.services.forwarding is not None:
        return ctx.services.forwarding.landing(face)
    return face


def doors_of(ctx: RequestContext) -> Collection[str | bytes]:
    """Names and ids of the exchanges that look at what comes."""
    forwarding = ctx.services.forwarding
    return () if forwarding is None else forwarding.doors


async def check_routable(
    ctx: RequestContext, exchange: Partition, data: PartitionProduceData, header: BatchHeader
) -> None:
    """Raise RecordsError naming the records that the exchange would send nowhere, if there are any.

    A batch that was appended before was routable then.
    """
    assert ctx.services.forwarding is not None
    assert isinstance(data.records, bytes | bytearray | memoryview)
    if header.producer_id >= 0 and exchange.log.producers.check(header) is not None:
        return
    for _ in ctx.services.forwarding.unroutable_steps(exchange, memoryview(data.records)[: header.size]):
        await trio.lowlevel.checkpoint()


def landed(answer: PartitionProduceResponse) -> PartitionProduceResponse:
    """The answer for what landed in an ingress log."""
    answer.base_offset = answer.log_append_time_ms = answer.log_start_offset = -1
    return answer
