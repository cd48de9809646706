"""Leader epochs: which leader wrote from which offset on.

Stored as Kafka's ``leader-epoch-checkpoint``: version, count, then ``<epoch> <start offset>`` lines.
Epochs and start offsets both rise strictly from entry to entry.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

FILE_NAME = "leader-epoch-checkpoint"


class EpochEntry(NamedTuple):
    """``epoch`` begins at ``start_offset``."""

    epoch: int
    start_offset: int


class LeaderEpochs:
    """The epochs of one log, in memory.  Who changes them writes the file (see :meth:`encode`)."""

    __slots__ = ("_epochs", "_starts", "dirty")

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        self._epochs: list[int] = []
        self._starts: list[int] = []
        self.dirty = False
        for epoch, start in entries:
            self.assign(epoch, start)
        self.dirty = False

    @property
    def entries(self) -> list[EpochEntry]:
        """All entries, oldest first."""
        return [EpochEntry(*pair) for pair in zip(self._epochs, self._starts, strict=True)]

    @property
    def latest(self) -> int | None:
        """The highest epoch; None when there is none."""
        return self._epochs[-1] if self._epochs else None

    def __len__(self) -> int:
        return len(self._epochs)

    def assign(self, epoch: int, start_offset: int) -> bool:
        """Begin ``epoch`` at ``start_offset``; True if that is news.

        Entries that contradict it go, as in Kafka: what is appended is the truth.
        """
        if epoch < 0 or (self._epochs and epoch == self._epochs[-1] and start_offset >= self._starts[-1]):
            return False
        while self._epochs and (self._epochs[-1] >= epoch or self._starts[-1] >= start_offset):
            self._epochs.pop()
            self._starts.pop()
        self._epochs.append(epoch)
        self._starts.append(start_offset)
        self.dirty = True
        return True

    def epoch_for(self, offset: int) -> int | None:
        """The epoch in which ``offset`` was (or would be) written; None below the first entry."""
        i = bisect_right(self._starts, offset) - 1
        return self._epochs[i] if i >= 0 else None

    def span(self, offset: int) -> tuple[int, int] | None:
        """(epoch, offset where the next one begins) at ``offset``; None below the first entry."""
        i = bisect_right(self._starts, offset) - 1
        if i < 0:
            return None
        return self._epochs[i], self._starts[i + 1] if i + 1 < len(self._starts) else 1 << 63

    def begins(self, epoch: int, start_offset: int) -> bool:
        """Whether the entries say that ``epoch`` begins exactly at ``start_offset``."""
        i = bisect_left(self._epochs, epoch)
        return i < len(self._epochs) and self._epochs[i] == epoch and self._starts[i] == start_offset

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """(epoch, end offset) as OffsetForLeaderEpoch answers: the largest known epoch not above
        ``epoch``, and where it ends.  (-1, -1) for a negative or future epoch, or if none is known;
        for an epoch before the first entry, that epoch and the first start offset (as Kafka does)."""
        if epoch < 0 or not self._epochs or epoch > self._epochs[-1]:
            return -1, -1
        if epoch == self._epochs[-1]:
            return epoch, log_end_offset
        i = bisect_right(self._epochs, epoch)
        if i == 0:
            return epoch, self._starts[0]
        return self._epochs[i - 1], self._starts[i]

    def truncate_from_end(self, end_offset: int) -> None:
        """Forget epochs that begin at or above ``end_offset``."""
        while self._starts and self._starts[-1] >= end_offset:
            self._starts.pop()
            self._epochs.pop()
            self.dirty = True

    def truncate_from_start(self, start_offset: int) -> None:
        """Forget epochs that end at or below ``start_offset``; the one that holds it begins there."""
        i = bisect_right(self._starts, start_offset) - 1
        if i < 0 or (i == 0 and self._starts[0] == start_offset):
            return
        del self._starts[:i]
        del self._epochs[:i]
        self._starts[0] = start_offset
        self.dirty = True

    def clear(self) -> None:
        """Forget everything."""
        self.dirty = self.dirty or bool(self._epochs)
        self._epochs.clear()
        self._starts.clear()

    def encode(self) -> bytes:
        """The content of the checkpoint file."""
        lines = [f"{epoch} {start}" for epoch, start in zip(self._epochs, self._starts, strict=True)]
        return "\n".join(["0", str(len(lines)), *lines, ""]).encode()

    @classmethod
    def decode(cls, data: bytes) -> LeaderEpochs:
        """The epochs of a checkpoint file.  Raises :class:`ValueError` for anything else."""
        lines = data.decode("ascii").split("\n")
        if lines[0] != "0" or len(lines) < 2 or len(lines) - 2 < int(lines[1]):
            raise ValueError("not a leader epoch checkpoint")
        epochs = cls()
        for line in lines[2 : 2 + int(lines[1])]:
            epoch, start = map(int, line.split())
            if (epochs._epochs and epoch <= epochs._epochs[-1]) or epoch < 0 or start < 0:
                raise ValueError("epochs are out of order")
            epochs.assign(epoch, start)
        epochs.dirty = False
        return epochs
