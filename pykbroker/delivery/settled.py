"""Which records of a held log nobody needs any more: what the process that rewrites it goes by.

A record says when it is due, and which are released is a few numbers
(:class:`~pykbroker.delivery.released.Released`): so that, and the offsets that are still being moved, is all
that has to be handed over.  A list of the offsets that wait would have a million entries; the due-time index
would have to be right, and to stay as it is meanwhile.  Here it is not asked: what is kept does not depend on
anything that is derived.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, NamedTuple

from pykbroker.delivery.held import entries
from pykbroker.delivery.released import Released, Row
from pykbroker.log.retaining import Settled
from pykbroker.records.batch import BatchHeader

MOST_RANGES: Final = 10_000
"""Of what is being moved; a million records may wait for an unavailable target, in any order."""


class Needed(NamedTuple):
    """What is released, durably; and of that, the ranges of offsets (both ends included) whose moves are not
    done."""

    released: Released
    moving: Sequence[tuple[int, int]] = ()

    def encode(self) -> str:
        """As part of a job."""
        return json.dumps([self.released.encode().hex(), self.moving])

    @classmethod
    def decode(cls, text: str) -> Needed:
        """What :meth:`encode` made.  Raises ValueError."""
        released, moving = json.loads(text)
        return cls(Released.decode(bytes.fromhex(released)), [(first, last) for first, last in moving])

    def settled(self) -> Settled:
        """What says of the records of a batch which of them are settled.  Records that this version does
        not understand never are."""
        covers = self.released.covers
        moving = sorted(self.moving)
        firsts = [first for first, _ in moving]

        def is_moving(offset: int) -> bool:
            at = bisect_right(firsts, offset)
            return at > 0 and offset <= moving[at - 1][1]

        def look(header: BatchHeader, payload: bytes) -> set[int]:
            return {
                offset
                for due_ms, offset, _, goes_somewhere in entries(header, payload)
                if (not goes_somewhere or covers(Row(due_ms, offset))) and not is_moving(offset)
            }

        return look


def ranges_of(offsets: Iterable[Iterable[int]], *, most: int = MOST_RANGES) -> list[tuple[int, int]]:
    """The offsets, in any order, as ranges, ``most`` of them at most: with more, what lies between
    neighbours is taken for one of them.  Takes long for a million."""
    found: list[tuple[int, int]] = []
    for offset in sorted(set(chain.from_iterable(offsets))):
        if found and found[-1][1] == offset - 1:
            found[-1] = found[-1][0], offset
        else:
            found.append((offset, offset))
    together = -(-len(found) // most)
    if together <= 1:
        return found
    return [
        (found[at][0], found[min(at + together, len(found)) - 1][1]) for at in range(0, len(found), together)
    ]
