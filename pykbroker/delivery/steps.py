"""What one step of a lane that follows commits does for one order: which records go where, what counts.

Nacks are decided about here, dead letters in :mod:`~pykbroker.delivery.letter_steps`; logs and the catalog
are read elsewhere (:class:`~pykbroker.delivery.selecting.Logs`, :class:`~pykbroker.delivery.places.Places`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pykbroker.delivery import headers
from pykbroker.delivery.counted import Counted, Holder
from pykbroker.delivery.draft import Draft
from pykbroker.delivery.letter_steps import LetterSteps
from pykbroker.delivery.letters import decode_return, replayed_suffix
from pykbroker.delivery.nacks import clipped
from pykbroker.delivery.orders import Order, OrderKind
from pykbroker.delivery.places import Arrivals, Places
from pykbroker.delivery.selecting import Logs, Selection, outside
from pykbroker.delivery.taking import count, left, take
from pykbroker.delivery.understanding import understood
from pykbroker.errors import KafkaError
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.plan import Move, Place, Route
from pykbroker.forwarding.refusing import is_gone
from pykbroker.forwarding.work import Records

if TYPE_CHECKING:
    from pykbroker.catalog.image import Topic
    from pykbroker.groups.stored import OffsetRecord


class Doing:
    """What commits mean, and what is done about them.  ``ignored`` hears of nacks that count nowhere."""

    def __init__(
        self,
        places: Places,
        logs: Logs,
        time_ms: Callable[[], int],
        ignored: Callable[[str, Topic], None],
        lost: Callable[[Place, Sequence[int]], None],
    ) -> None:
        self._places = places
        self._logs = logs
        self._ignored = ignored
        self._lost = lost
        self._counted = Counted()
        self._letters = LetterSteps(places, logs, time_ms)

    def resumed(self, counted: Counted, extras: Mapping[bytes, bytes]) -> None:
        """Begin with what is durable."""
        self._counted = counted
        self._letters.resumed(counted, extras)

    def rest(self) -> None:
        """There is nothing to do for now."""
        self._logs.forget()

    def sweep(self, draft: Draft) -> None:
        """Forget what counts of topics that are gone, and below the start of logs."""
        for holder in self._counted.holders():
            if self._places.topic(holder.topic_id) is None:
                self._counted.forget(holder, draft.changes)
                continue
            try:
                start, _ = self._logs.bounds(Place(holder.topic_id, holder.partition))
            except KafkaError:
                continue  # not there now; another time
            self._counted.prune(holder, start, draft.changes)
        self._letters.sweep(draft)

    def order(self, commit: int, holder: Holder, record: OffsetRecord) -> Order | None:
        """What the commit at this offset is; None: nothing to us."""
        return understood(commit, holder, record, self._places, self._ignored)

    # -- doing it

    async def do(self, order: Order, draft: Draft) -> Order | None:
        """Do what ``draft`` has room for; what is left of it, if anything.

        Raises :class:`KafkaError` where nothing can be done now; then nothing is.
        """
        holder, counted = order.holder, self._counted
        topic = self._places.topic(holder.topic_id)
        if topic is None or order.kind is OrderKind.FORGET:
            counted.forget(holder, draft.changes)
            return None
        if order.kind is OrderKind.REWIND:
            counted.rewind(holder, order.offset, draft.changes)
            return None
        try:
            start, end = self._logs.bounds(Place(holder.topic_id, holder.partition))
        except KafkaError as error:
            if not is_gone(error):
                raise
            counted.forget(holder, draft.changes)
            return None
        if order.kind is OrderKind.NACK:
            rest = await self._nack(order, topic, start, min(end, order.offset), draft)
        elif order.kind is OrderKind.PURGE:
            rest = self._letters.purge(order, start, end, draft)
        else:
            rest = await self._letters.replay(order, topic, start, end, draft)
        counted.prune(holder, start, draft.changes)
        return rest

    async def _nack(self, order: Order, topic: Topic, start: int, end: int, draft: Draft) -> Order | None:
        holder = order.holder
        there = clipped(order.ranges, start, end)
        missing = outside(order.ranges, start, end)
        taken = Selection()
        arrivals: Arrivals | None = None
        if any(True for _ in self._counted.missing(holder, there)):
            arrivals = await self._places.arrivals(topic, holder.partition, holder.group)
            if arrivals is None:
                self._counted.rewind(holder, order.offset, draft.changes)
                draft.refused.append((order, "the group has no policy any more"))
                return None
            taken = await take(order, there, self._counted, self._logs, draft)
        # From here on nothing fails.
        self._counted.rewind(holder, order.offset, draft.changes)
        draft.skip(holder, topic.name, (*missing, *taken.skipped))
        if arrivals is not None:
            note = headers.Nack(
                arrivals.returned, topic.name, holder.partition, holder.group, order.reason
            ).encode()
            draft.move(arrivals.place, Place(holder.topic_id, holder.partition), note, taken.records)
            draft.nacked += len(taken.records)
            count(order, taken, self._counted, draft)
        return left(order, taken, there)

    # -- moving it

    async def read(self, source: Place, offsets: Sequence[int]) -> Records:
        """Records that are to be moved; those that are gone by now are left out."""
        try:
            found = await self._logs.pick(source, offsets)
        except KafkaError as error:
            if not is_gone(error):
                raise
            found = {}
        if len(found) < len(offsets):
            self._lost(source, [offset for offset in offsets if offset not in found])
        return found

    def suffix(self, move: Move, index: int, record: Source) -> bytes:
        """Key, value and headers of a copy."""
        back = decode_return(move.note)
        if back is not None:
            return replayed_suffix(back, index, record)
        return headers.nacked_suffix(record, move.note)

    async def elsewhere(self, move: Move, offsets: Sequence[int]) -> Sequence[Route] | None:
        """Where records go whose target is gone; None: nowhere now.  Raises :class:`KafkaError`."""
        source = move.source
        topic = None if source is None else self._places.topic(source.topic_id)
        if source is None or topic is None:
            return ()  # what was to be moved is gone with its topic
        if decode_return(move.note) is not None:
            target = await self._places.replays(source.partition)
        else:
            group = headers.Nack.decode(move.note).group
            arrivals = await self._places.arrivals(topic, source.partition, group)
            if arrivals is None:
                return None
            target = arrivals.place
        if target == move.target:
            return None
        wanted = frozenset(offsets)
        kept = tuple(offset for offset in move.offsets if offset in wanted)
        return (Route(target=target, offsets=kept, source=source, note=move.note),)
