"""Fetch (API key 1), versions 4 to 18.

5 log start offset, 7 sessions (KIP-227), 9 leader epoch of the client (KIP-320), 11 rack (ignored: every
replica is here), 12 last fetched epoch and diverging epochs (KIP-595), 13 topic ids (KIP-516), 15 replica
state (KIP-903), 16 endpoints of the leader (KIP-951), 17 directory ids and 18 the follower's high watermark
(both for replicas, ignored).

A fetch is answered at once when it has ``min_bytes``, when a partition has an error or a diverging epoch,
when it asks for nothing or does not want to wait; otherwise it is parked and woken by appends.  Answers hold
whole batches; the first batch of the first partition that has any comes whole, whatever the limits say
(KIP-74).  Not here yet: aborted transactions (there are none) and fetches of replicas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pykbroker.apis._fetch_sessions import Answered, FetchContext, FetchSessions, Key
from pykbroker.apis._registry import Parked, RequestContext, api
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.log.log import LogRead
from pykbroker.partitions.partition import Partition
from pykbroker.protocol.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
)

__all__ = ["FetchSessions", "handle"]

READ_COMMITTED: Final = 1
ZSTD_SINCE: Final = 10
STORAGE_ERROR_SINCE: Final = 6
ENDPOINTS_SINCE: Final = 16
MAX_WAIT_MS: Final = 2_147_483_647


def failed(ctx: RequestContext, request: FetchRequest, code: ErrorCode) -> FetchResponse:
    """The top-level error, and ``code`` for every partition that was named (below 7 there is no other)."""
    return FetchResponse(
        error_code=code,
        responses=[
            FetchableTopicResponse(
                topic=topic.topic,
                topic_id=topic.topic_id,
                partitions=[refused(partition.partition, code) for partition in topic.partitions],
            )
            for topic in request.topics
        ],
    )


@api(FetchRequest, FetchResponse, failed=failed)
def handle(ctx: RequestContext, request: FetchRequest) -> FetchResponse | Parked[FetchResponse]:
    """Read what there is, or park."""
    context = ctx.services.fetch_sessions.open(request, ctx.version, ctx.now)
    if isinstance(context, ErrorCode):
        return FetchResponse(error_code=context, responses=[])
    reading = Reading(ctx, request)
    answered = reading.read(context)
    if reading.urgent or reading.size >= reading.min_bytes or request.max_wait_ms <= 0:
        return reading.finish(context, answered)
    return ParkedFetch(reading, context, answered)


class Reading:
    """One pass over the wanted partitions, and what came of it."""

    __slots__ = (
        "_committed",
        "_ctx",
        "_fenced",
        "_max_bytes",
        "min_bytes",
        "partitions",
        "request",
        "size",
        "urgent",
    )

    def __init__(self, ctx: RequestContext, request: FetchRequest) -> None:
        self._ctx = ctx
        self.request = request
        self._committed = request.isolation_level == READ_COMMITTED
        self._max_bytes = min(request.max_bytes, ctx.services.config.fetch_max_bytes)
        self.min_bytes = min(request.min_bytes, self._max_bytes)
        self.size = 0
        """Record bytes that were read."""
        self.urgent = False
        """Whether to answer now, whatever was read."""
        self.partitions: list[Partition] = []
        self._fenced = False

    @property
    def deadline(self) -> float:
        """When the client wants an answer at the latest (monotonic seconds)."""
        return self._ctx.now + self.request.max_wait_ms / 1000

    def read(self, context: FetchContext) -> list[Answered]:
        """Read every wanted partition within the limits."""
        self.size, self._fenced = 0, False
        self.partitions.clear()
        answered: list[Answered] = []
        urgent, wanted_any = False, False
        for key, wanted in context.wanted():
            wanted_any = True
            try:
                data = self._read_one(key, wanted)
                urgent = urgent or data.diverging_epoch.end_offset >= 0
            except KafkaError as error:
                data = self._error(key, wanted, error)
                urgent = True
            answered.append((key, data))
        self.urgent = urgent or not wanted_any
        return answered

    def _find(self, key: Key) -> Partition:
        name, index = key
        if isinstance(name, str):
            return self._ctx.services.partitions.get(name, index)
        return self._ctx.services.partitions.get_by_id(name, index)

    def _read_one(self, key: Key, wanted: FetchPartition) -> PartitionData:
        partition = self._find(key)
        if wanted.current_leader_epoch != -1:
            partition.check_leader_epoch(wanted.current_leader_epoch)
        if self._ctx.version < ZSTD_SINCE and partition.config.compression_type == "zstd":
            raise KafkaError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)
        self.partitions.append(partition)
        data = PartitionData(
            partition_index=wanted.partition,
            high_watermark=partition.high_watermark,
            last_stable_offset=partition.last_stable_offset,
            log_start_offset=partition.log_start_offset,
            aborted_transactions=[] if self._committed else None,
            records=b"",
        )
        if wanted.last_fetched_epoch != -1:
            diverging = _diverging(partition, wanted)
            if diverging is not None:
                data.diverging_epoch = diverging
                return data
        read = self._records(partition, wanted)
        if read.size:
            self.size += read.size
            data.records = read.records
        return data

    def _records(self, partition: Partition, wanted: FetchPartition) -> LogRead:
        limit = max(0, min(wanted.partition_max_bytes, self._max_bytes - self.size))
        return partition.read(
            wanted.fetch_offset, limit, read_committed=self._committed, first_whole=self.size == 0
        )

    def _error(self, key: Key, wanted: FetchPartition, error: KafkaError) -> PartitionData:
        code = error.code
        if code == ErrorCode.KAFKA_STORAGE_ERROR and self._ctx.version < STORAGE_ERROR_SINCE:
            code = ErrorCode.NOT_LEADER_OR_FOLLOWER  # old clients do not know 56, and would not retry
        data = refused(wanted.partition, code)
        if code == ErrorCode.FENCED_LEADER_EPOCH and self._ctx.version >= ENDPOINTS_SINCE:
            partition = self._find(key)
            data.current_leader = LeaderIdAndEpoch(
                leader_id=self._ctx.services.config.node_id, leader_epoch=partition.leader_epoch
            )
            self._fenced = True
        return data

    def finish(self, context: FetchContext, answered: list[Answered]) -> FetchResponse:
        """The response."""
        response = context.answer(answered)
        if self._fenced:
            response.node_endpoints = self._endpoints()
        return response

    def _endpoints(self) -> list[NodeEndpoint]:
        services = self._ctx.services
        broker = services.catalog.image.brokers.get(services.config.node_id)
        if broker is None or not broker.endpoints:
            return []
        endpoint = broker.endpoints[0]
        return [
            NodeEndpoint(node_id=broker.node_id, host=endpoint.host, port=endpoint.port, rack=broker.rack)
        ]


def refused(index: int, code: ErrorCode) -> PartitionData:
    """A partition's answer that is only an error."""
    return PartitionData(
        partition_index=index, error_code=code, high_watermark=-1, aborted_transactions=None, records=b""
    )


def _diverging(partition: Partition, wanted: FetchPartition) -> EpochEndOffset | None:
    """Where the client's log leaves ours, if its last record is not one of ours."""
    epoch, end = partition.end_offset_for_epoch(wanted.last_fetched_epoch)
    if epoch == -1 or end == -1:
        raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
    if epoch < wanted.last_fetched_epoch or end < wanted.fetch_offset:
        return EpochEndOffset(epoch=epoch, end_offset=end)
    return None


class ParkedFetch:
    """A fetch that waits for more bytes.

    What becomes visible is counted first (a comparison per wake-up) and read again only once that could be
    enough; a client that waits for a megabyte does not have it read for every append.
    """

    def __init__(self, reading: Reading, context: FetchContext, answered: list[Answered]) -> None:
        self.deadline = reading.deadline
        self._reading = reading
        self._context = context
        self._answered = answered
        self._wake: Callable[[], None] | None = None
        self._partitions = tuple(reading.partitions)
        self._seen = self._visible() - reading.size
        self._quiet = self._disturbed()

    def start(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called when a wanted partition has more."""
        self._wake = wake
        for partition in self._partitions:
            partition.watch(wake)
        if self._may_be_enough():
            wake()

    def answer(self, *, expired: bool) -> FetchResponse | None:
        """The response, if there is enough to say (or ``expired``)."""
        reading = self._reading
        if expired or self._may_be_enough():
            self._answered = reading.read(self._context)
            if expired or reading.urgent or reading.size >= reading.min_bytes:
                return reading.finish(self._context, self._answered)
            self._seen, self._quiet = self._visible() - reading.size, self._disturbed()
        return None

    def close(self) -> None:
        """Stop watching."""
        if self._wake is not None:
            for partition in self._partitions:
                partition.unwatch(self._wake)

    def _visible(self) -> int:
        return sum(partition.visible_bytes for partition in self._partitions)

    def _may_be_enough(self) -> bool:
        return self._visible() - self._seen >= self._reading.min_bytes or self._disturbed() != self._quiet

    def _disturbed(self) -> int:
        return sum(partition.disturbances for partition in self._partitions)
