"""The answer to one Produce request while it comes about, and its wait for the high watermarks."""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.partitions.partition import Appended, Partition
from pykbroker.protocol.messages.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from pykbroker.records.validate import RecordsError

log = logging.getLogger(__name__)

_WITHOUT_LOG_START = frozenset(
    {
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.KAFKA_STORAGE_ERROR,
    }
)
"""Errors whose answers say log start offset -1 (ReplicaManager.appendToLocalLog, Kafka 4.3.1)."""


class Round:
    """One request: the answer as it grows, and the appends that still wait for the high watermark."""

    __slots__ = ("failed", "pending", "response")

    def __init__(self) -> None:
        self.response = ProduceResponse(responses=[])
        self.pending: list[tuple[Partition, int, PartitionProduceResponse]] = []
        self.failed = False

    def topic(self, topic: TopicProduceData) -> list[PartitionProduceResponse]:
        """Begin the answers of ``topic``."""
        answer = TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=[])
        self.response.responses.append(answer)
        return answer.partition_responses

    def appended(self, index: int, partition: Partition, appended: Appended) -> PartitionProduceResponse:
        """The answer for an append; noted if it is not below the high watermark yet."""
        answer = PartitionProduceResponse(
            index=index,
            base_offset=appended.base_offset,
            log_append_time_ms=appended.log_append_time_ms,
            log_start_offset=appended.log_start_offset,
        )
        if partition.high_watermark <= appended.last_offset:
            self.pending.append((partition, appended.last_offset + 1, answer))
        return answer

    def refused(self, index: int, error: KafkaError, partition: Partition | None) -> PartitionProduceResponse:
        """The answer for a partition that took nothing."""
        self.failed = True
        log.debug(
            "produce refused: partition=%r code=%s: %s", partition or index, error.code.name, error.message
        )
        start = -1
        if partition is not None and error.code not in _WITHOUT_LOG_START:
            start = partition.log_start_offset
        answer = PartitionProduceResponse(
            index=index,
            error_code=error.code,
            base_offset=-1,
            log_start_offset=start,
            error_message=error.message,
        )
        if isinstance(error, RecordsError):
            answer.record_errors = [
                BatchIndexAndErrorMessage(batch_index=i, batch_index_error_message=why)
                for i, why in error.records
            ]
        return answer

    def settle(self, *, expired: bool) -> bool:
        """Take stock of what waits; True when nothing does any more.  ``expired``: give up waiting."""
        waiting: list[tuple[Partition, int, PartitionProduceResponse]] = []
        for entry in self.pending:
            partition, next_offset, answer = entry
            if partition.high_watermark >= next_offset:
                continue
            if partition.closed or partition.log_end_offset < next_offset:
                answer.error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
            elif partition.failure is not None:
                answer.error_code = ErrorCode.KAFKA_STORAGE_ERROR
                answer.error_message = partition.failure.message
            elif expired:
                answer.error_code = ErrorCode.REQUEST_TIMED_OUT
            else:
                waiting.append(entry)
        self.pending = waiting
        return not waiting

    async def wait(self, seconds: float) -> None:
        """Wait for the high watermarks, at most ``seconds``."""
        with trio.move_on_after(seconds):
            for partition, next_offset, _ in tuple(self.pending):
                try:
                    await partition.wait_high_watermark(next_offset)
                except KafkaError:
                    pass  # settle() sees the same and puts it into the answer
        self.settle(expired=True)


class ParkedProduce:
    """Waits for the high watermarks of a :class:`Round`."""

    def __init__(self, produced: Round, deadline: float) -> None:
        self.deadline = deadline
        self._round = produced
        self._watched = {partition for partition, _, _ in produced.pending}
        self._wake: Callable[[], None] | None = None

    def start(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called when a high watermark moves."""
        self._wake = wake
        for partition in self._watched:
            partition.watch(wake)
        if self._round.settle(expired=False):
            wake()

    def answer(self, *, expired: bool) -> ProduceResponse | None:
        """The answer, if nothing waits any more (or ``expired``)."""
        return self._round.response if self._round.settle(expired=expired) else None

    def close(self) -> None:
        """Stop watching."""
        if self._wake is not None:
            for partition in self._watched:
                partition.unwatch(self._wake)
