"""What a log raises.  Each carries the Kafka error code that a client is told."""

from __future__ import annotations

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.log.holes import Hole


class OffsetOutOfRange(KafkaError):
    """The offset lies below the log start or above the log end."""

    def __init__(self, offset: int, log_start: int, log_end: int) -> None:
        super().__init__(
            ErrorCode.OFFSET_OUT_OF_RANGE, f"offset {offset} is not in the log: {log_start} to {log_end}"
        )
        self.offset = offset


class CorruptRange(KafkaError):
    """The offset lies in a hole; ``hole.next_offset`` is where intact records begin again."""

    def __init__(self, hole: Hole) -> None:
        super().__init__(
            ErrorCode.CORRUPT_MESSAGE,
            f"offsets {hole.first_offset} to {hole.next_offset - 1} are damaged: {hole.reason}",
        )
        self.hole = hole


class StorageError(KafkaError):
    """The file system refused; the log is as it was before the call."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.KAFKA_STORAGE_ERROR, message)
