"""Damage found while a log is in use: from "something does not fit" to a hole, or a repaired index."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pykbroker.log.errors import CorruptRange
from pykbroker.log.holes import Hole, covered, merge
from pykbroker.log.reading import Suspicious
from pykbroker.log.recovery import place_holes
from pykbroker.log.scan import Anchors, Limits, Source, scan
from pykbroker.log.segment import (
    LOG,
    Segment,
    file_name,
)
from pykbroker.log.state import LogState

log = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_ACCEPTED = 4096
_BLIND = 256 * 1024
"""Bytes behind a hole for which an index is worth a rebuild."""


class Examining(LogState):
    """Looks closely at what a walk through headers found suspicious."""

    def _looking_closely(self, step: Callable[[bool], T]) -> T:
        """Run ``step``; where it meets something suspicious, find out what it is, and run it again.

        Each round finds a hole, repairs an index, or stops insisting on what did not fit.
        """
        strict = True
        try:
            while True:
                try:
                    return step(strict)
                except Suspicious as e:
                    if not strict:
                        raise CorruptRange(self._unreadable(e.segment, e.position)) from None
                    place = e.segment.base_offset, e.position
                    if not self._examine(e.segment, e.position, e.previous):
                        strict = place not in self._accepted
                        self._accept(place)
        except OSError as e:
            raise self._failed("read", e) from e

    def _accept(self, place: tuple[int, int]) -> None:
        """What was suspicious at ``place`` (segment and position) is as it should be."""
        if len(self._accepted) >= _MAX_ACCEPTED:
            self._accepted.clear()
        self._accepted.add(place)

    def _examine(self, segment: Segment, position: int, previous: int) -> bool:
        """Look closely at the bytes from ``previous`` to behind ``position``; True if a hole was found
        or an index made anew, False if all is as it should be."""
        self._hints.clear()
        i = self._segments.index(segment)
        upper = self._bases[i + 1] if i + 1 < len(self._bases) else self.log_end_offset
        start, expected = self._edge_before(segment, previous)
        limits = Limits(
            segment=segment.base_offset,
            upper=upper,
            sealed=True,
            compacted=self.gaps_are_usual,
            epochs=self.epochs,
            anchors=Anchors(segment.base_offset, segment.index),
            known=self.damage,
        )
        source = Source(self._files, segment.descriptor().fd, segment.size)
        batches: list[tuple[int, int]] = []
        found = []
        while True:
            result = scan(
                source,
                limits,
                start=start,
                expected=expected,
                on_batch=lambda at, header: batches.append((at, header.last_offset)),
                stop_behind=position,
            )
            found += result.holes
            known = next((h for h in segment.holes if h.position == result.end < h.end_position), None)
            if result.torn is None or known is None:
                break
            start, expected = known.end_position, known.next_offset
        if result.torn is not None and result.next_offset < upper:
            found.append(
                Hole(
                    first_offset=result.next_offset,
                    next_offset=upper,
                    segment=segment.base_offset,
                    position=result.end,
                    end_position=segment.size,
                    reason=result.torn,
                )
            )
        new = [hole for hole in found if not covered(self.damage, hole)]
        for hole in new:
            self._add_hole(hole)
        repaired = self._repair_index(segment, dict(batches), position, new)
        if not new and not repaired:
            header = segment.header_at(position)
            if header is not None and self.epochs.epoch_for(header.base_offset) != header.leader_epoch:
                log.warning("leader epochs do not fit the records: directory=%s", self.directory)
                self._epochs_trusted = False
        return bool(new) or repaired

    def _edge_before(self, segment: Segment, position: int) -> tuple[int, int]:
        """The last batch edge before ``position`` that the index names rightly, and its offset."""
        index = segment.index
        holes = [h for h in segment.holes if h.end_position < position]
        floor = holes[-1].end_position if holes else 0
        for k in range(len(index) - 1, -1, -1):
            at = index.positions[k]
            if at >= position:
                continue
            if at < floor:
                break
            header = segment.header_at(at)
            if header is not None and header.last_offset == segment.base_offset + index.offsets[k]:
                return at, header.base_offset
        return (floor, holes[-1].next_offset) if holes else (0, segment.base_offset)

    def _repair_index(
        self, segment: Segment, batches: Mapping[int, int], position: int, new: Sequence[Hole]
    ) -> bool:
        """Make the index anew if it names a batch edge near ``position`` that is none, or if it ends
        at one of the ``new`` holes (a rebuild could not see behind it then)."""
        index = segment.index
        last = max(batches, default=position)
        lying = any(
            batches.get(at) != segment.base_offset + offset
            for at, offset in zip(index.positions, index.offsets, strict=True)
            if (at in batches or at == position or min(batches, default=at) <= at <= last)
            and not any(h.position <= at < h.end_position for h in segment.holes)
        )
        end = index.positions[-1] if len(index) else 0
        blind = any(end <= hole.position and segment.size - hole.end_position > _BLIND for hole in new)
        if lying or blind:
            log.warning("index rebuilt: it does not fit the records: file=%s", segment.path)
            segment.rebuild_indexes()
        return lying or blind

    def _add_hole(self, hole: Hole) -> None:
        log.error(
            "damage found: file=%s/%s position=%d bytes=%d offsets=%d-%d reason=%r",
            self.directory, file_name(hole.segment, LOG), hole.position,
            hole.end_position - hole.position, hole.first_offset, hole.next_offset - 1, hole.reason,
        )  # fmt: skip
        self.damage = merge(self.damage, hole)
        place_holes(self._segments, self.damage)
        self._save_holes()

    def _unreadable(self, segment: Segment, position: int) -> Hole:
        """For what is neither readable nor a hole by the rules of the scan: the rest of the segment."""
        i = self._segments.index(segment)
        upper = self._bases[i + 1] if i + 1 < len(self._bases) else self.log_end_offset
        _at, expected = self._edge_before(segment, position)
        return Hole(
            first_offset=expected,
            next_offset=upper,
            segment=segment.base_offset,
            position=position,
            end_position=segment.size,
            reason="not readable",
        )
