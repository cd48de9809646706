"""A step of a lane that follows commits, as it comes to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pykbroker.delivery.counted import Changes, Holder
from pykbroker.delivery.nacks import Range
from pykbroker.delivery.orders import Order
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.plan import Place, Route
from pykbroker.forwarding.work import Step

PLAN_RECORDS: Final = 1000
PLAN_BYTES: Final = 1024 * 1024
"""What one step moves at most (a single larger record comes all the same)."""
PLAN_SKIPPED: Final = 10_000
"""Runs of offsets that are not there, of which one step takes note."""


@dataclass(slots=True)
class Draft:
    """A step as it comes to be."""

    position: int
    next_position: int = field(init=False)
    changes: Changes = field(default_factory=dict)
    offsets: dict[tuple[Place, Place, bytes], list[int]] = field(default_factory=dict)
    """By target, source and note, what is moved."""
    records: dict[Place | None, dict[int, Source]] = field(default_factory=dict)
    skipped: list[tuple[Holder, str, list[Range]]] = field(default_factory=list)
    """Offsets that are not there, with the name of their topic."""
    replayed: list[tuple[Holder, str, int, str, int]] = field(default_factory=list)
    """Letters that go back: of which topic, offset, destination, when they are due."""
    refused: list[tuple[Order, str]] = field(default_factory=list)
    """Orders that cannot be carried out any more, and why."""
    nacked: int = 0
    purged: int = 0
    size: int = 0
    count: int = 0
    runs: int = 0
    is_noted: bool = False
    share: int = 1
    """What fits is divided by this for now."""

    def __post_init__(self) -> None:
        self.next_position = self.position

    @property
    def has_room(self) -> bool:
        """Whether more fits into this step."""
        return self.records_left > 0 and self.bytes_left > 0 and self.runs < PLAN_SKIPPED // self.share

    @property
    def records_left(self) -> int:
        """How many records fit."""
        return PLAN_RECORDS // self.share - self.count

    @property
    def bytes_left(self) -> int:
        """How many bytes fit, but for the last record."""
        return PLAN_BYTES // self.share - self.size

    def passed(self, commit: int, *, is_noted: bool) -> None:
        """The commit at this offset is decided about; ``is_noted``: that becomes durable in any case."""
        self.next_position = commit + 1
        self.is_noted = self.is_noted or is_noted

    def move(self, target: Place, source: Place, note: bytes, found: Mapping[int, Source]) -> int:
        """Have records moved; the number that the first has in its move."""
        if not found:
            return 0
        line = self.offsets.setdefault((target, source, note), [])
        number = len(line)
        line += found
        self.records.setdefault(source, {}).update(found)
        self.count += len(found)
        self.size += sum(record.size for record in found.values())
        return number

    def skip(self, holder: Holder, topic: str, ranges: Iterable[Range]) -> None:
        """Take note of offsets that are not there."""
        missing = list(ranges)
        if missing:
            self.skipped.append((holder, topic, missing))
            self.runs += len(missing)

    def step(self) -> Step | None:
        """The step; None: there is nothing that would have to be kept."""
        if not (self.offsets or self.changes or self.is_noted):
            return None
        return Step(
            next_position=self.next_position,
            routes=[
                Route(target=target, offsets=tuple(offsets), source=source, note=note)
                for (target, source, note), offsets in self.offsets.items()
            ],
            extras=tuple(self.changes.items()),
            records=self.records,
            data=self,
        )
