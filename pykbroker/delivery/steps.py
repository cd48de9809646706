"""What one step of a lane that follows commits does for one order: which records go where, what counts.

The only decisions about nacks and about settled letters, apart from reading logs and catalog
(:class:`Places`, :class:`~pykbroker.delivery.selecting.Logs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from pykbroker.catalog.retrying import DLQ_GROUP, role_of
from pykbroker.delivery import headers
from pykbroker.delivery.commits import Meaning
from pykbroker.delivery.counted import Counted, Holder
from pykbroker.delivery.draft import PLAN_RECORDS, Draft
from pykbroker.delivery.letters import Return, decode_return, destination, replayed_suffix
from pykbroker.delivery.nacks import Asked, Nack, Purge, Range, Ranges, Replay, WrongShape, clipped, parse
from pykbroker.delivery.orders import Order, OrderKind
from pykbroker.delivery.returning import Returning
from pykbroker.delivery.selecting import Logs, Selection, outside, select
from pykbroker.errors import KafkaError
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.plan import Move, Place, Route
from pykbroker.forwarding.refusing import is_gone
from pykbroker.forwarding.work import Records

if TYPE_CHECKING:
    from pykbroker.catalog.image import Topic
    from pykbroker.groups.stored import OffsetRecord

PURGED: Final = 1_000_000
"""Offsets that one step settles."""

SLOWEST_MS: Final = 86_400_000.0
"""At the lowest rate a letter goes back every day."""

PACE: Final = b"R"
"""The first byte of the name of a small value: when the next letter of a topic may go back (ms)."""


class Arrivals(NamedTuple):
    """Where nacked records of a partition go, and whether they have been retried already."""

    place: Place
    returned: bool


class Places(Protocol):
    """The catalog, as far as it says what commits mean and where records go."""

    def topic_id(self, name: str, committed_for: bytes | None) -> bytes | None:
        """The id of the topic of that name; ``committed_for`` is the one that the commit names, if it
        does.  None: it is gone, and what is there now is another one."""
        ...

    def topic(self, topic_id: bytes) -> Topic | None:
        """The topic of that id."""
        ...

    def meaning(self, topic: Topic, group: str) -> Meaning:
        """See :func:`~pykbroker.delivery.commits.meaning`."""
        ...

    def why_not(self, topic: Topic, asked: Replay | Purge) -> str | None:
        """See :func:`~pykbroker.delivery.letters.why_not`."""
        ...

    def why_not_to(self, topic: Topic, to: str) -> str | None:
        """See :func:`~pykbroker.delivery.letters.why_not_to`."""
        ...

    async def arrivals(self, topic: Topic, partition: int, group: str) -> Arrivals | None:
        """Where nacks of ``group`` go; None: nowhere, its policy is gone and there is no flow.

        Raises :class:`KafkaError` where the topics cannot be made.
        """
        ...

    async def replays(self, partition: int) -> Place:
        """Where dead letters of a partition are held on their way back.  Raises :class:`KafkaError`."""
        ...


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
        self._time_ms = time_ms
        self._ignored = ignored
        self._lost = lost
        self._counted = Counted()
        self._returning = Returning({})
        self._pace: dict[bytes, int] = {}

    def resumed(self, counted: Counted, extras: Mapping[bytes, bytes]) -> None:
        """Begin with what is durable."""
        self._counted = counted
        self._returning = Returning(extras)
        self._pace = {name[1:]: int(value) for name, value in extras.items() if name[:1] == PACE}

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
        now_ms = self._time_ms()
        for topic_id in [each for each, due_ms in self._pace.items() if due_ms < now_ms]:
            del self._pace[topic_id]
            draft.changes[PACE + topic_id] = None
        self._returning.sweep(
            lambda name: self._places.topic_id(name, None) is not None, now_ms, draft.changes
        )

    # -- what a commit means

    def order(self, commit: int, holder: Holder, record: OffsetRecord) -> Order | None:
        """What the commit at this offset is; None: nothing to us."""
        value = record.value
        if value is None:
            if holder.group == DLQ_GROUP:
                return None
            return Order(commit=commit, kind=OrderKind.FORGET, holder=holder)
        asked = _asked(value.metadata)
        if holder.group == DLQ_GROUP:
            match asked:
                case Replay(ranges, to, rate):
                    return Order(
                        commit=commit, kind=OrderKind.REPLAY, holder=holder, ranges=ranges, to=to, rate=rate
                    )
                case Purge(ranges):
                    return Order(commit=commit, kind=OrderKind.PURGE, holder=holder, ranges=ranges)
            return None
        if isinstance(asked, Nack) and (topic := self._places.topic(holder.topic_id)) is not None:
            meaning = self._places.meaning(topic, holder.group)
            if meaning is Meaning.FAILURES:
                return Order(
                    commit=commit,
                    kind=OrderKind.NACK,
                    holder=holder,
                    offset=value.offset,
                    ranges=asked.ranges,
                    reason=asked.reason,
                )
            if meaning is Meaning.MISTAKES:
                self._ignored(holder.group, topic)
        return Order(commit=commit, kind=OrderKind.REWIND, holder=holder, offset=value.offset)

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
            left = await self._nack(order, topic, start, min(end, order.offset), draft)
        elif order.kind is OrderKind.PURGE:
            left = self._purge(order, start, end, draft)
        else:
            left = await self._replay(order, topic, start, end, draft)
        counted.prune(holder, start, draft.changes)
        return left

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
            taken = await self._select(order, there, draft)
        # From here on nothing fails.
        self._counted.rewind(holder, order.offset, draft.changes)
        draft.skip(holder, topic.name, (*missing, *taken.skipped))
        if arrivals is not None:
            note = headers.Nack(
                arrivals.returned, topic.name, holder.partition, holder.group, order.reason
            ).encode()
            draft.move(arrivals.place, Place(holder.topic_id, holder.partition), note, taken.records)
            draft.nacked += len(taken.records)
            self._count(holder, taken, draft)
        return _left(order, taken, there)

    async def _select(self, order: Order, there: Ranges, draft: Draft) -> Selection:
        holder = order.holder
        wanted = self._counted.missing(holder, there)
        place = Place(holder.topic_id, holder.partition)
        return await select(self._logs, place, wanted, draft.records_left, draft.bytes_left)

    def _count(self, holder: Holder, taken: Selection, draft: Draft) -> None:
        self._counted.add(holder, ((offset, offset) for offset in taken.records), draft.changes)

    def _purge(self, order: Order, start: int, end: int, draft: Draft) -> Order | None:
        there = clipped(order.ranges, start, end)
        if not there:
            return None
        until = there[0][0] + PURGED
        settled = clipped(there, 0, until)
        fresh = list(self._counted.missing(order.holder, settled))
        draft.purged += sum(last - first + 1 for first, last in fresh)
        draft.count += PLAN_RECORDS // 4  # as many small values as that many sparse nacks, about
        self._counted.add(order.holder, fresh, draft.changes)
        left = clipped(there, until, end)
        return replace(order, ranges=left) if left else None

    async def _replay(self, order: Order, topic: Topic, start: int, end: int, draft: Draft) -> Order | None:
        why = self._places.why_not(topic, Replay(order.ranges, order.to, order.rate))
        if why is not None:
            draft.refused.append((order, why))
            return None
        holder = order.holder
        there = clipped(order.ranges, start, end)
        target = await self._places.replays(holder.partition)
        taken = await self._select(order, there, draft)
        role = role_of(topic)
        to = role.origin if order.to is None and role is not None else order.to
        now_ms = self._time_ms()
        due_ms, step_ms = now_ms, 0.0
        if order.rate is not None:
            due_ms, step_ms = (
                max(now_ms, self._pace.get(holder.topic_id, 0)),
                min(1000 / order.rate, SLOWEST_MS),
            )
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
            next_ms = due_ms + int((first + len(taken.records)) * step_ms)
            self._pace[holder.topic_id] = next_ms
            draft.changes[PACE + holder.topic_id] = b"%d" % next_ms
        missing = (*outside(order.ranges, start, end), *taken.skipped, *lost)
        draft.skip(holder, topic.name, missing)
        self._count(holder, taken, draft)
        return _left(order, taken, there)

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


def _asked(metadata: str) -> Asked | None:
    try:
        return parse(metadata)
    except WrongShape:
        return None  # who checked the commit has said so


def _left(order: Order, taken: Selection, there: Ranges) -> Order | None:
    if taken.rest is None or not there:
        return None
    left = clipped(order.ranges, taken.rest, there[-1][1] + 1)
    return replace(order, ranges=left) if left else None
