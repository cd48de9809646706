"""What one step does for orders about dead letters: some are settled, or go back at their pace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pykbroker.catalog.retrying import role_of
from pykbroker.delivery.counted import Counted
from pykbroker.delivery.draft import PLAN_RECORDS, Draft
from pykbroker.delivery.letters import Return, destination
from pykbroker.delivery.nacks import Range, Replay, clipped
from pykbroker.delivery.orders import Order
from pykbroker.delivery.places import Places
from pykbroker.delivery.returning import Returning
from pykbroker.delivery.selecting import Logs, Selection, outside
from pykbroker.delivery.taking import count, left, take
from pykbroker.forwarding.plan import Place

if TYPE_CHECKING:
    from pykbroker.catalog.image import Topic

PURGED: Final = 1_000_000
"""Offsets that one step settles."""

SLOWEST_MS: Final = 86_400_000.0
"""At the lowest rate a letter goes back every day."""

PACE: Final = b"R"
"""The first byte of the name of a small value: when the next letter of a topic may go back (ms)."""


class LetterSteps:
    """Of one lane that follows commits; what counts as settled is in ``counted``."""

    def __init__(self, places: Places, logs: Logs, time_ms: Callable[[], int]) -> None:
        self._places = places
        self._logs = logs
        self._time_ms = time_ms
        self._counted = Counted()
        self._returning = Returning({})
        self._pace: dict[bytes, int] = {}

    def resumed(self, counted: Counted, extras: Mapping[bytes, bytes]) -> None:
        """Begin with what is durable."""
        self._counted = counted
        self._returning = Returning(extras)
        self._pace = {name[1:]: int(value) for name, value in extras.items() if name[:1] == PACE}

    def sweep(self, draft: Draft) -> None:
        """Forget what is over."""
        now_ms = self._time_ms()
        for topic_id in [each for each, due_ms in self._pace.items() if due_ms < now_ms]:
            del self._pace[topic_id]
            draft.changes[PACE + topic_id] = None
        self._returning.sweep(
            lambda topic_id: self._places.topic(topic_id) is None,
            lambda name: self._places.topic_id(name, None) is not None,
            now_ms,
            draft.changes,
        )

    def purge(self, order: Order, start: int, end: int, draft: Draft) -> Order | None:
        """Settle what is between ``start`` and ``end``; what is left of the order."""
        there = clipped(order.ranges, start, end)
        if not there:
            return None
        until = there[0][0] + PURGED
        settled = clipped(there, 0, until)
        fresh = list(self._counted.missing(order.holder, settled))
        draft.purged += sum(last - first + 1 for first, last in fresh)
        draft.count += PLAN_RECORDS // 4  # as many small values as that many sparse nacks, about
        self._counted.add(order.holder, fresh, draft.changes)
        rest = clipped(there, until, end)
        return replace(order, ranges=rest) if rest else None

    async def replay(self, order: Order, topic: Topic, start: int, end: int, draft: Draft) -> Order | None:
        """The same for letters of ``topic`` that go back.

        Raises :class:`KafkaError` where that cannot be now; then nothing is done.
        """
        why = self._places.why_not(topic, Replay(order.ranges, order.to, order.rate))
        if why is not None:
            draft.refused.append((order, why))
            return None
        holder = order.holder
        there = clipped(order.ranges, start, end)
        target = await self._places.replays(holder.partition)
        taken = await take(order, there, self._counted, self._logs, draft)
        now_ms = self._time_ms()
        due_ms, step_ms = self._rate(order, now_ms)
        role = role_of(topic)
        to = role.origin if order.to is None and role is not None else order.to
        back = Return(to, holder.partition, due_ms, step_ms)
        lost = self._homeless(topic, back, taken)
        first = draft.move(target, Place(holder.topic_id, holder.partition), back.encode(), taken.records)
        going: list[tuple[str, int]] = []
        for number, (offset, letter) in enumerate(taken.records.items(), first):
            name, _ = destination(back, letter)
            going.append((name, due_ms + int(number * step_ms)))
            draft.replayed.append((holder, topic.name, offset, *going[-1]))
        self._returning.note(holder.topic_id, holder.partition, going, now_ms, draft.changes)
        if order.rate is not None and taken.records:
            self._go_on(holder.topic_id, due_ms + int((first + len(taken.records)) * step_ms), draft)
        missing = (*outside(order.ranges, start, end), *taken.skipped, *lost)
        draft.skip(holder, topic.name, missing)
        count(order, taken, self._counted, draft)
        return left(order, taken, there)

    def _rate(self, order: Order, now_ms: int) -> tuple[int, float]:
        """When the next letter may go, and how long after it each further one (ms)."""
        if order.rate is None:
            return now_ms, 0.0
        return max(now_ms, self._pace.get(order.holder.topic_id, 0)), min(1000 / order.rate, SLOWEST_MS)

    def _go_on(self, topic_id: bytes, next_ms: int, draft: Draft) -> None:
        self._pace[topic_id] = next_ms
        draft.changes[PACE + topic_id] = b"%d" % next_ms

    def _homeless(self, topic: Topic, back: Return, taken: Selection) -> list[Range]:
        """Take out letters that do not say where they came from, or whose place is not there any more."""
        if back.to is not None:
            return []
        known: dict[str, bool] = {"": False}
        gone: list[Range] = []
        for offset, letter in tuple(taken.records.items()):
            name, _ = destination(back, letter)
            if name not in known:
                known[name] = self._places.why_not_to(topic, name) is None
            if not known[name]:
                del taken.records[offset]
                gone.append((offset, offset))
        return gone
