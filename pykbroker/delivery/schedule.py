"""Which records of a held log are released, and which are next: sans-IO.

Mostly that is two numbers, ``end`` and a ``horizon``: released are the records below offset ``end`` whose
key (due time, offset) is not above the horizon.  A step either raises the horizon over everything that is
indexed, or raises ``end`` over late arrivals, whose due time lies below the horizon.  Both lie in the log
of plans, in the batch of the plan that they follow from.

A clock that is set back leaves the horizon in the future, and records that are due before it would stand in
each other's way.  Then a new *era* begins: from that offset on there is a horizon of its own.  There is
nearly always one era, and old ones end when nothing of them waits.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, Sequence


class Row(NamedTuple):
    """The key of a held record.  Rows are released in their order."""

    due_ms: int
    offset: int


class Era(NamedTuple):
    """The records from offset ``start`` to the next era's start, and how far they are released."""

    start: int
    horizon: Row


class Released(NamedTuple):
    """What is released: everything below the first era, and what the eras say, all below ``end``."""

    end: int
    eras: tuple[Era, ...]

    def covers(self, row: Row) -> bool:
        """Whether the record of ``row`` is released."""
        raise NotImplementedError

    def encode(self) -> bytes:
        raise NotImplementedError


class LaneIndex(Protocol):
    """What the schedule asks of the due-time index of one lane."""

    async def above(self, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """The first rows above ``key`` with offsets from ``start`` to below ``end``, in order."""
        ...

    async def late(self, key: Row, limit: int, start: int, end: int) -> Sequence[Row]:
        """The rows not above ``key`` with offsets from ``start`` to below ``end``, by offset."""
        ...


class Batch(NamedTuple):
    """What one step may release, in order."""

    rows: tuple[Row, ...]
