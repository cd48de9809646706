"""Moves that wait for their targets: one queue per target, in the order of sequences."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator

import trio

from pykbroker.clock import Clock
from pykbroker.errors import KafkaError
from pykbroker.forwarding.machine import Name
from pykbroker.forwarding.plan import Move, Place, Plan
from pykbroker.records.batch import MAX_SEQUENCE

log = logging.getLogger(__name__)

RETRY_S, MAX_RETRY_S = 0.1, 5.0
"""How long an unavailable target is left alone, at first and at last."""
REPEAT_S = 60.0
"""A target that stays unavailable gets another log line after this long."""

Deliver = Callable[[int, Move], Awaitable[None]]
"""Executes a move of the plan in a slot, and takes note of it; raises KafkaError if that cannot be now."""


class Outboxes:
    """The outboxes of one lane.  A target's queue is worked off by a task in ``nursery`` while it has
    anything; its first move is being delivered.  The next one is taken while nobody else has ``turn``."""

    def __init__(
        self,
        label: str,
        clock: Clock,
        nursery: trio.Nursery,
        turn: trio.Lock,
        deliver: Deliver,
        name_of: Callable[[bytes], str],
    ) -> None:
        self._label = label
        self._clock = clock
        self._nursery = nursery
        self._turn = turn
        self._deliver = deliver
        self._name_of = name_of
        self._boxes: dict[Place, deque[tuple[int, Move]]] = {}

    def __contains__(self, target: Place) -> bool:
        return target in self._boxes

    def __iter__(self) -> Iterator[tuple[int, Move]]:
        """All moves that wait, with the slots of their plans."""
        return (entry for box in self._boxes.values() for entry in box)

    def put(self, slot: int, move: Move) -> None:
        """Have a move of the plan in ``slot`` executed, behind the others to its target."""
        box = self._boxes.get(move.target)
        if box is None:
            box = self._boxes[move.target] = deque()
            self._nursery.start_soon(self._empty, move.target, box)
        box.append((slot, move))

    async def _empty(self, target: Place, box: deque[tuple[int, Move]]) -> None:
        delay, told = RETRY_S, 0.0
        while box:
            try:
                await self._deliver(*box[0])
            except KafkaError as error:
                now = self._clock.monotonic()
                if now - told > REPEAT_S or not told:
                    told = now
                    log.warning(
                        "a target is not available, its copies wait: from=%s to=%s-%d moves=%d: %s",
                        self._label, self._name_of(target.topic_id), target.partition, len(box), error,
                    )  # fmt: skip
                await self._clock.wait_until(now + delay)
                delay = min(2 * delay, MAX_RETRY_S)
                continue
            delay = RETRY_S
            box.popleft()
            async with self._turn:
                pass  # what is next may just be merged with others
        if told:
            log.info(
                "copies that waited are there: from=%s to=%s-%d",
                self._label, self._name_of(target.topic_id), target.partition,
            )  # fmt: skip
        del self._boxes[target]

    def amended(self, slot: int, move: Move) -> None:
        """The move that is being delivered is this one now."""
        self._boxes[move.target][0] = slot, move

    def idle(self) -> dict[int, set[Name]]:
        """By slot of their plans, the moves that stand in line; without plans of which one is first."""
        first = {box[0][0] for box in self._boxes.values() if box}
        found: dict[int, set[Name]] = {}
        for slot, move in self:
            if slot not in first:
                found.setdefault(slot, set()).add(move.name)
        return found

    def merged(self, slots: Iterable[int], plan: Plan) -> None:
        """The plans in ``slots``, of which none is first in line, are this one now."""
        gone = frozenset(slots)
        for target, box in self._boxes.items():
            entries = [entry for entry in box if entry[0] not in gone]
            entries += [(plan.slot, move) for move in plan.moves if move.target == target]
            if len(entries) > 1:
                begin = entries[0][1].base_sequence
                entries.sort(key=lambda entry: (entry[1].base_sequence - begin) & MAX_SEQUENCE)
            box.clear()
            box.extend(entries)
