"""The log beside a model in memory, through random appends, reads, rolls, cuts, stops and crashes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pykbroker.log.check import check_log
from pykbroker.log.log import Log
from pykbroker.records.batch import iter_headers
from tests.log.support import NOW, Config, data_of, make_batch, open_log, placed, read_values

PRODUCER = 77


class LogMachine(RuleBasedStateMachine):
    """``batches`` is the model: (base offset, values, epoch) of what the log must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="pykbroker-model-"))
        self.directory = self.root / "t-0"
        self.batches: list[tuple[int, list[bytes], int]] = []
        self.epoch = 0
        self.start = 0
        self.end = 0
        self.flushed = 0
        self.sequence = 0

    @initialize(segment_bytes=st.sampled_from([600, 2000, 1 << 20]), interval=st.sampled_from([0, 200, 4096]))
    def begin(self, segment_bytes: int, interval: int) -> None:
        self.config = Config(segment_bytes=segment_bytes, index_interval_bytes=interval)
        self.log = self.open(clean=False)

    def open(self, *, clean: bool) -> Log:
        return open_log(
            self.directory,
            self.config,
            clean=clean,
            recovery_point=self.flushed,
            log_start=self.start,
        )

    @rule(sizes=st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=3), min_size=1, max_size=3))
    def append(self, sizes: list[list[int]]) -> None:
        made = []
        base = self.end
        for batch in sizes:
            values = [bytes([i % 256]) * size for i, size in enumerate(batch)]
            made.append(
                make_batch(
                    values,
                    timestamp_ms=NOW + base,
                    producer_id=PRODUCER,
                    producer_epoch=0,
                    base_sequence=self.sequence,
                )
            )
            self.batches.append((base, values, self.epoch))
            base += len(values)
            self.sequence += len(values)
        self.log.append(*placed(made, self.end, self.epoch), NOW)
        self.end = base

    @rule()
    def new_epoch(self) -> None:
        self.epoch += 1

    @rule()
    def roll(self) -> None:
        self.log.roll(NOW)

    @rule()
    def flush(self) -> None:
        self.flushed = self.log.flush()
        assert self.flushed == self.end

    @precondition(lambda self: self.end > self.start)
    @rule(data=st.data(), max_bytes=st.sampled_from([1, 100, 1000, 1 << 20]))
    def read(self, data: st.DataObject, max_bytes: int) -> None:
        offset = data.draw(st.integers(self.start, self.end - 1))
        answer = self.log.read(offset, max_bytes, self.end)
        headers = [h for _pos, h in iter_headers(data_of(answer.records))]
        first = next(i for i, (base, values, _) in enumerate(self.batches) if offset < base + len(values))
        assert [(h.base_offset, h.leader_epoch) for h in headers] == [
            (base, epoch) for base, _values, epoch in self.batches[first : first + len(headers)]
        ]
        assert answer.size <= max_bytes or len(headers) == 1
        assert answer.next_offset == headers[-1].next_offset

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.batches) - 1))
        end = self.batches[index][0]
        if end < self.start:
            return
        self.log.truncate_to(end)
        self.cut(end)

    def cut(self, end: int) -> None:
        self.batches = [b for b in self.batches if b[0] < end]
        self.end = end
        self.flushed = min(self.flushed, end)
        self.sequence = sum(len(values) for _base, values, _epoch in self.batches)

    @precondition(lambda self: self.end > self.start)
    @rule(data=st.data())
    def advance_log_start(self, data: st.DataObject) -> None:
        self.start = data.draw(st.integers(self.start, self.end))
        self.log.advance_log_start(self.start)
        for path in self.log.delete_expired(NOW, self.end):
            path.unlink()

    @rule()
    def stop_cleanly(self) -> None:
        self.log.close(clean=True)
        self.flushed = self.end
        self.log = self.open(clean=True)

    @rule()
    def crash(self) -> None:
        """kill -9: what was written is there."""
        self.log.close(clean=False)
        self.log = self.open(clean=False)

    @rule(data=st.data())
    def lose_power(self, data: st.DataObject) -> None:
        """Of the active segment, nothing behind the flushed part need be there."""
        self.log.close(clean=False)
        path = max(self.directory.glob("*.log"))
        base = int(path.stem)
        positions = {h.next_offset: pos + h.size for pos, h in iter_headers(path.read_bytes())}
        safe = max((pos for after, pos in positions.items() if after <= self.flushed), default=0)
        size = data.draw(st.integers(safe, path.stat().st_size))
        tail = data.draw(st.sampled_from([b"", b"\0" * 70, b"\xff" * 3]))
        whole = path.read_bytes()
        torn = whole[:size] + tail
        path.write_bytes(torn)
        # A batch that ends in zeros may be whole again.
        kept = max((after for after, pos in positions.items() if torn[:pos] == whole[:pos]), default=base)
        self.start = min(self.start, kept)
        self.cut(kept)
        self.log = self.open(clean=False)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "log"):
            return
        assert (self.log.log_start_offset, self.log.log_end_offset) == (self.start, self.end)
        assert self.log.damage == []
        held = {base + i: value for base, values, _ in self.batches for i, value in enumerate(values)}
        values, holes = read_values(self.log)
        assert holes == []
        assert values == {o: v for o, v in held.items() if o >= self.start}
        for base, _values, epoch in self.batches:
            if base >= self.start:
                assert self.log.epochs.epoch_for(base) == epoch
        self.check_producer()

    def check_producer(self) -> None:
        entry = self.log.producers.get(PRODUCER)
        window = [(base, base + len(values) - 1) for base, values, _ in self.batches][-5:]
        if entry is None:
            assert not [base for base, _last in window if base >= self.start]
            return
        kept = [(span.base_offset, span.last_offset) for span in entry.window]
        # Batches below the log start may be gone from replays.
        assert kept == window[len(window) - len(kept) :]
        assert all(span in kept for span in window if span[0] >= self.start)

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close(clean=False)
            assert check_log(self.directory, recovery_point=self.flushed, gaps=False).report.problems == []
        shutil.rmtree(self.root)


TestLog = LogMachine.TestCase
