"""Targets in memory that can refuse, vanish, forget, and bring the broker down in the middle of a move."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.copying import ROUTED_FROM, Source, sources
from pykbroker.forwarding.plan import Place
from pykbroker.forwarding.targets import Rules
from pykbroker.partitions.admission import Pipeline
from pykbroker.records.batch import BatchHeader, read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import payload_of

FACE = "exchange"


class Crash(Exception):
    """The broker is gone."""


def place(number: int, partition: int = 0) -> Place:
    """A target."""
    return Place(bytes([number]) * 16, partition)


def source(offset: int, *, key: bytes | None = None, value: bytes | None = b"v") -> Source:
    """A record of an ingress log."""
    batch = encode_batch([RecordData(key, value)], timestamp_ms=1000 + offset, base_offset=offset)
    return next(sources(read_header(batch), bytes(payload_of(batch))))


@dataclass(slots=True)
class Copy:
    """A record in a target: where it comes from, and the sequence that it was appended with."""

    face: str
    offset: int
    sequence: int
    producer_id: int


@dataclass(slots=True)
class MemoryTargets:
    """A :class:`~pykbroker.forwarding.targets.TargetPort`."""

    max_bytes: int = 1 << 20
    logs: dict[Place, list[Copy]] = field(default_factory=lambda: defaultdict(list))
    unavailable: set[Place] = field(default_factory=set)
    gone: set[Place] = field(default_factory=set)
    compacted: set[Place] = field(default_factory=set)
    forgotten: set[Place] = field(default_factory=set)
    """Targets that know no producer any more."""
    appends_left: int | None = None
    """Appends that still work; the one after them brings the broker down."""
    after: bool = False
    """Whether that append is made before the broker goes down."""
    batches: list[tuple[Place, BatchHeader]] = field(default_factory=list)

    def _check(self, target: Place) -> None:
        if target in self.gone:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
        if target in self.unavailable:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)

    def rules(self, target: Place) -> Rules:
        self._check(target)
        return Rules(self.max_bytes, None, None, False, target not in self.compacted)

    def end(self, target: Place) -> int:
        self._check(target)
        return len(self.logs[target])

    def last_sequence(self, target: Place, producer_id: int, since: int) -> int:
        self._check(target)
        begin = since if target in self.forgotten else 0
        mine = [copy for copy in self.logs[target][begin:] if copy.producer_id == producer_id]
        return mine[-1].sequence if mine else -1

    def append(self, target: Place, batch: bytearray, *, now_ms: int) -> int:
        self._check(target)
        if self.appends_left == 0:
            if self.after:
                self._append(target, batch)
            raise Crash
        if self.appends_left is not None:
            self.appends_left -= 1
        self._append(target, batch)
        return len(self.logs[target])

    def _append(self, target: Place, batch: bytearray) -> None:
        header = read_header(batch)
        self.batches.append((target, header))
        self.forgotten.discard(target)
        for index, record in enumerate(sources(header, bytes(payload_of(batch)))):
            (value,) = (value for name, value in record.headers if name == ROUTED_FROM)
            assert value is not None
            face, partition, offset = value.decode().split("/")
            assert partition == "0"
            sequence = (header.base_sequence + index) & 0x7FFF_FFFF
            self.logs[target].append(Copy(face, int(offset), sequence, header.producer_id))

    def settled(self, target: Place, offset: int) -> bool:
        return True

    async def wait_settled(self, target: Place, offset: int) -> None:
        raise AssertionError("everything is settled at once")

    def validators(self, target: Place) -> Pipeline | None:
        self._check(target)
        return None

    def offsets(self, target: Place) -> list[int]:
        """Where the copies in a target come from, in order."""
        return [copy.offset for copy in self.logs[target]]

    def copies(self, target: Place) -> list[tuple[str, int]]:
        """Where the copies in a target come from, in order, with the faces of the logs."""
        return [(copy.face, copy.offset) for copy in self.logs[target]]


def by_offset(records: Iterable[Source]) -> dict[int, Source]:
    """Records by their offsets."""
    return {record.offset: record for record in records}
