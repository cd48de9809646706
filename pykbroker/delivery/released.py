"""Which records of a held log are released.

Mostly that is two numbers, ``end`` and a ``horizon``: released are the records below offset ``end`` whose
key (due time, offset) is not above the horizon.  A step either raises the horizon over everything that is
indexed, or raises ``end`` over late arrivals, whose keys lie below the horizon.  Both lie in the log of
plans, in the batch of the plan that follows from them.

A clock that is set back leaves the horizon in the future, and records that are due before it would stand in
each other's way.  Then a new *era* begins: from that offset on there is a horizon of its own.  There is
nearly always one era, and an old one ends when nothing of it waits.
"""

from __future__ import annotations

from typing import NamedTuple

from pykbroker.records.varint import append_varint, read_varint

VERSION = 0


class Row(NamedTuple):
    """The key of a held record.  Rows are released in their order."""

    due_ms: int
    offset: int


LOWEST = Row(-1, -1)
"""Below all rows."""


class Era(NamedTuple):
    """The records from offset ``start`` to the next era's start, and up to which key they are released."""

    start: int
    horizon: Row


class Released(NamedTuple):
    """What is released: everything below the first era, and what the eras say, all below ``end``."""

    end: int
    eras: tuple[Era, ...]

    @classmethod
    def nothing(cls, start: int) -> Released:
        """Nothing of a log that begins at ``start``."""
        return cls(start, (Era(start, LOWEST),))

    def covers(self, row: Row) -> bool:
        """Whether the record of ``row`` is released."""
        if row.offset >= self.end:
            return False
        for era in reversed(self.eras):
            if row.offset >= era.start:
                return row <= era.horizon
        return True

    def cut(self, end: int) -> Released:
        """What holds when the log has lost everything from offset ``end`` on."""
        if end >= self.end:
            return self
        eras = [era for era in self.eras if era.start <= end]
        return Released(end, tuple(eras) or (Era(end, self.eras[0].horizon),))

    def without_eras_below(self, floor: int) -> Released:
        """The same, when no record below ``floor`` waits any more."""
        eras = self.eras
        while len(eras) > 1 and eras[1].start <= floor:
            eras = eras[1:]
        return self if eras is self.eras else Released(self.end, eras)

    def spans(self) -> list[tuple[Row, int, int]]:
        """Of each era: its horizon, where it begins, and where it ends."""
        ends = [era.start for era in self.eras[1:]] + [self.end]
        return [(era.horizon, era.start, end) for era, end in zip(self.eras, ends, strict=True)]

    def encode(self) -> bytes:
        """As a small value of a lane."""
        out = bytearray((VERSION,))
        append_varint(out, self.end)
        append_varint(out, len(self.eras))
        for start, (due_ms, offset) in self.eras:
            append_varint(out, start)
            append_varint(out, due_ms)
            append_varint(out, offset)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes) -> Released:
        """Raises ValueError."""
        if data[:1] != bytes((VERSION,)):
            raise ValueError(f"version not known: {data[:1]!r}, known: {VERSION}")
        try:
            end, at = read_varint(data, 1)
            count, at = read_varint(data, at)
            eras = []
            for _ in range(count):
                start, at = read_varint(data, at)
                due_ms, at = read_varint(data, at)
                offset, at = read_varint(data, at)
                eras.append(Era(start, Row(due_ms, offset)))
        except IndexError as error:
            raise ValueError(f"cut short: {data!r:.80}") from error
        if not eras:
            raise ValueError(f"no era: {data!r:.80}")
        return cls(end, tuple(eras))
