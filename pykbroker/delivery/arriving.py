"""The first half of a flow: what arrived is decided about, once, and held.

An arriving lane reads one partition of a delayed log in order and appends each record, with its decision, to
the same partition of the held log.  That log's tail says how far it has come: there is nothing else to keep.
Decisions that were made and could not be appended are not made again, but for a crash.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import trio

from pykbroker.delivery import held as form
from pykbroker.delivery.held import Held, HeldError, Kind
from pykbroker.errors import KafkaError
from pykbroker.forwarding.copying import Source, sources
from pykbroker.forwarding.reading import Reader, bytes_of
from pykbroker.log.errors import CorruptRange
from pykbroker.records.batch import BatchError, crc_ok, iter_headers
from pykbroker.records.decode import payload_of

if TYPE_CHECKING:
    from pykbroker.clock import Clock
    from pykbroker.partitions.partition import Partition

log = logging.getLogger(__name__)

STEP_RECORDS: Final = 1000
STEP_BYTES: Final = 1024 * 1024
SLICE_S: Final = 0.001
AGAIN_S: Final = 1.0
REPEAT_S: Final = 60.0
"""A log that stays unavailable gets another log line after this long."""
DELAY_HEADER: Final = "pykbroker-delay-ms"
MAX_DELAY_MS: Final = 100 * 365 * 24 * 3600 * 1000
"""A hundred years: what is said beyond that counts as that."""


class Decided(NamedTuple):
    """What becomes of one record: as it will be held, and who is to be told when it is stored."""

    record: Source
    held: Held
    tell: Callable[[], None] | None = None


Decide = Callable[[Source], Decided]


class Decider(Protocol):
    """Decides about what arrives in one partition.  Must not raise for what a record contains."""

    def begin(self, now_ms: int) -> Decide:
        """What decides about the next records, with the settings of now."""
        ...


class DelayDecider:
    """Of a topic that delays: by the header, else by the topic's setting."""

    def __init__(self, partition: int, delay_ms: Callable[[], int]) -> None:
        self._partition = partition
        self._delay_ms = delay_ms

    def begin(self, now_ms: int) -> Decide:
        """Decide with the delay that the topic has now."""
        usual, partition = self._delay_ms(), self._partition

        def decide(record: Source) -> Decided:
            delay = usual
            for name, value in record.headers:
                if name == DELAY_HEADER:
                    delay = delay_of(value, usual)
            return Decided(record, Held(now_ms + delay, Kind.FACE, partition))

        return decide


def delay_of(value: bytes | None, usual: int) -> int:
    """The delay that a header's value says, ``usual`` if it says none."""
    if value is None or not value.isdigit():
        return usual
    return min(int(value), MAX_DELAY_MS) if len(value) < 20 else MAX_DELAY_MS


class ArrivingLane:
    """See the module.  ``position`` is the offset below which everything is in the held log."""

    def __init__(
        self, delayed: Partition, held: Partition, decider: Decider, clock: Clock, max_decompressed: int
    ) -> None:
        self.position = 0
        self.has_begun = False
        """Whether the position is known."""
        self.arrived = 0
        """Records decided about."""
        self.last_batch = held.log_start_offset
        """The base offset of the held log's last batch, which says where to go on."""
        self._delayed = delayed
        self._held = held
        self._decider = decider
        self._clock = clock
        self._max_decompressed = max_decompressed
        self._wake = trio.Event()
        self._told = -REPEAT_S

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    @property
    def is_idle(self) -> bool:
        """Whether everything that has arrived is held."""
        return self.position >= self._delayed.log_end_offset

    async def run(self) -> None:
        """Hold what arrives, until cancelled."""
        while True:
            try:
                self._resume()
                self.has_begun = True
                await self._follow()
            except KafkaError as error:
                await self._again(error)

    async def _again(self, error: KafkaError) -> None:
        now = self._clock.monotonic()
        if now - self._told >= REPEAT_S:
            self._told = now
            log.warning("records that arrived wait: partition=%s: %s", self._delayed.label, error)
        await self._clock.wait_until(now + AGAIN_S)

    def _resume(self) -> None:
        """Look up where to go on.  A power cut may have taken the end of either log."""
        delayed = self._delayed
        start, end = delayed.log_start_offset, delayed.log_end_offset
        last, self.last_batch = tail(self._held, self._max_decompressed)
        if last is None:
            self.position = start
            return
        position = last.ingress_offset + 1
        if last.ingress_epoch != delayed.leader_epoch:
            _, known = delayed.end_offset_for_epoch(last.ingress_epoch)
            end = end if known < 0 else min(end, known)
        if position > end:
            log.error(
                "%s has lost records that are held already: offsets=%d-%d", delayed.label, end, position - 1
            )
        self.position = max(start, min(position, end))

    async def _follow(self) -> None:
        reader = self._reader()
        while True:
            self._wake = trio.Event()
            if await self._take(reader):
                await trio.lowlevel.checkpoint()
            else:
                reader = self._reader()  # one that waits holds what it read last
                await self._wake.wait()

    async def _take(self, reader: Reader) -> bool:
        """Hold the next records; False: there are none."""
        end = self._delayed.last_stable_offset
        if self.position >= end:
            return False
        chunk = await reader.take(self.position, end, max_records=STEP_RECORDS, max_bytes=STEP_BYTES)
        if chunk.next_offset <= self.position:
            return False
        decided = await self._decided(chunk.records)
        if decided:
            await self._hold(decided)
        self.position = chunk.next_offset
        self.arrived += len(decided)
        for _, _, tell in decided:
            if tell is not None:
                tell()
        return True

    def _reader(self) -> Reader:
        return Reader(self._delayed, self._max_decompressed, keep_provenance=True)

    async def _decided(self, records: Sequence[Source]) -> list[Decided]:
        decide = self._decider.begin(self._clock.time_ms())
        found: list[Decided] = []
        started = time.perf_counter()
        for record in records:
            found.append(decide(record))
            if time.perf_counter() - started > SLICE_S:
                await trio.lowlevel.checkpoint()
                started = time.perf_counter()
        return found

    async def _hold(self, decided: Sequence[Decided]) -> None:
        """Append to the held log, and wait until that counts."""
        suffixes = self._suffixes(decided)
        if not suffixes:
            return
        while True:
            buffer, headers = form.batches(suffixes)
            try:
                appended = self._held.append_as_leader(
                    buffer, headers, now_ms=self._clock.time_ms(), internal=True
                )
                break
            except KafkaError as error:
                if self._held.closed:
                    raise
                await self._again(error)
        last = headers[-1]
        self.last_batch = appended.next_offset - last.record_count
        while True:
            try:
                await self._held.wait_high_watermark(appended.next_offset)
                break
            except KafkaError as error:
                if self._held.closed:
                    raise
                self._held.request_flush()
                await self._again(error)

    def _suffixes(self, decided: Sequence[Decided]) -> list[tuple[int, bytes]]:
        """The held records.  What is discarded leaves a mark at the end only, for the position."""
        epoch = self._delayed.leader_epoch
        found: list[tuple[int, bytes]] = []
        for record, held, _ in decided:
            if held.kind != Kind.NOTHING:
                full = held._replace(ingress_offset=record.offset, ingress_epoch=epoch, codec=record.codec)
                found.append((record.timestamp, form.suffix(record, full)))
        record, held, _ = decided[-1]
        if held.kind == Kind.NOTHING:
            mark = Held(0, Kind.NOTHING, ingress_offset=record.offset, ingress_epoch=epoch)
            found.append((record.timestamp, form.marker(mark)))
        return found


def tail(held: Partition, max_decompressed: int) -> tuple[Held | None, int]:
    """What the last record of a held log says, and the base offset of its batch; (None, log start) if there
    is no such record.  Damaged batches at the end are passed over.  Raises :class:`KafkaError`."""
    start, at = held.log_start_offset, held.log_end_offset - 1
    while at >= start:
        try:
            found = held.log.read(at, 1, held.log_end_offset)
        except CorruptRange as damage:
            at = min(damage.hole.first_offset, at) - 1
            continue
        data = bytes_of(found.records)
        try:
            position, header = next(iter_headers(data))
            if not crc_ok(data, position):
                raise BatchError("the CRC does not match")
            *_, record = sources(header, bytes(payload_of(data, position, max_decompressed)))
            return form.decision(record), header.base_offset
        except (BatchError, HeldError, ValueError, StopIteration) as error:
            log.error("the end of %s is damaged: offset=%d: %s", held.label, at, error)
            at = min(at, found.first_offset) - 1
    return None, start
