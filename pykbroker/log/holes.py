"""Damage inside a log: ranges of offsets that cannot be served.

The damaged bytes stay where they are (somebody may want to look at them), so any scan finds them
again.  What was found is also stored, in a file ``damage-checkpoint`` beside the segments, in the
form of Kafka's checkpoint files (a version, a count, one line per entry)::

    0
    1
    <first offset> <next offset> <segment base offset> <position> <end position> <reason>

It is replaced as a whole and synced when a hole is found, so that damage is reported after every
restart without reading the data again.  The file is a cache like the indexes: without it the walk
that serves reads finds the damage anew.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FILE_NAME = "damage-checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Hole:
    """Offsets ``first_offset`` up to, not including, ``next_offset``, lost to damage.

    The bytes ``position`` to ``end_position`` of the segment ``segment`` (its base offset) are not
    intact batches; both are equal where the bytes are missing altogether.
    """

    first_offset: int
    next_offset: int
    segment: int
    position: int
    end_position: int
    reason: str


def find(holes: Sequence[Hole], offset: int) -> Hole | None:
    """The hole that ``offset`` lies in; ``holes`` are sorted."""
    i = bisect_right(holes, offset, key=lambda hole: hole.first_offset) - 1
    return holes[i] if i >= 0 and offset < holes[i].next_offset else None


def covered(holes: Iterable[Hole], found: Hole) -> bool:
    """Whether ``found`` says nothing that ``holes`` do not say."""
    return any(
        hole.segment == found.segment
        and hole.first_offset <= found.first_offset
        and found.next_offset <= hole.next_offset
        and hole.position <= found.position
        and found.end_position <= hole.end_position
        for hole in holes
    )


def merge(holes: Iterable[Hole], found: Hole) -> list[Hole]:
    """``holes`` with ``found`` in its place; known holes that it overlaps become part of it."""
    kept: list[Hole] = []
    for hole in holes:
        bytes_touch = (
            hole.segment == found.segment
            and hole.position < found.end_position
            and found.position < hole.end_position
        )
        if (hole.first_offset < found.next_offset and found.first_offset < hole.next_offset) or bytes_touch:
            found = _joined(found, hole)
        else:
            kept.append(hole)
    return sorted([*kept, found])


def _joined(one: Hole, other: Hole) -> Hole:
    if one.segment != other.segment:  # cannot touch in bytes; keep the wider statement about offsets
        positions = one.segment, one.position, one.end_position
    else:
        positions = (
            one.segment,
            min(one.position, other.position),
            max(one.end_position, other.end_position),
        )
    return Hole(
        first_offset=min(one.first_offset, other.first_offset),
        next_offset=max(one.next_offset, other.next_offset),
        segment=positions[0],
        position=positions[1],
        end_position=positions[2],
        reason=one.reason,
    )


def encode(holes: Sequence[Hole]) -> bytes:
    """The content of the checkpoint file."""
    lines = [
        f"{h.first_offset} {h.next_offset} {h.segment} {h.position} {h.end_position} {h.reason}"
        for h in holes
    ]
    return "\n".join(["0", str(len(lines)), *lines, ""]).encode()


def decode(data: bytes) -> list[Hole]:
    """The holes of a checkpoint file; lines that are not one are left out."""
    holes = []
    for line in data.decode("utf-8", "replace").splitlines()[2:]:
        parts = line.split(" ", 5)
        if len(parts) == 6 and all(part.isdigit() for part in parts[:5]):
            first, after, segment, position, end = map(int, parts[:5])
            holes.append(
                Hole(
                    first_offset=first,
                    next_offset=after,
                    segment=segment,
                    position=position,
                    end_position=end,
                    reason=parts[5],
                )
            )
    return sorted(holes)
