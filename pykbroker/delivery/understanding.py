"""What a commit means to the lane that follows commits: an order, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pykbroker.catalog.retrying import DLQ_GROUP
from pykbroker.delivery.commits import Meaning
from pykbroker.delivery.counted import Holder
from pykbroker.delivery.nacks import Asked, Nack, Purge, Replay, WrongShape, parse
from pykbroker.delivery.orders import Order, OrderKind
from pykbroker.delivery.places import Places

if TYPE_CHECKING:
    from pykbroker.catalog.image import Topic
    from pykbroker.groups.stored import OffsetRecord


def understood(
    commit: int,
    holder: Holder,
    record: OffsetRecord,
    places: Places,
    ignored: Callable[[str, Topic], None],
) -> Order | None:
    """What the commit at this offset is; None: nothing to us.  ``ignored`` hears of nacks that count
    nowhere, with the group."""
    value = record.value
    if value is None:
        # Letters that are settled stay so.
        return (
            None if holder.group == DLQ_GROUP else Order(commit=commit, kind=OrderKind.FORGET, holder=holder)
        )
    asked = _asked(value.metadata)
    if holder.group == DLQ_GROUP:
        return _of_letters(commit, holder, asked)
    if isinstance(asked, Nack) and (topic := places.topic(holder.topic_id)) is not None:
        meaning = places.meaning(topic, holder.group)
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
            ignored(holder.group, topic)
    return Order(commit=commit, kind=OrderKind.REWIND, holder=holder, offset=value.offset)


def _of_letters(commit: int, holder: Holder, asked: Asked | None) -> Order | None:
    match asked:
        case Replay(ranges, to, rate):
            return Order(commit=commit, kind=OrderKind.REPLAY, holder=holder, ranges=ranges, to=to, rate=rate)
        case Purge(ranges):
            return Order(commit=commit, kind=OrderKind.PURGE, holder=holder, ranges=ranges)
    return None


def _asked(metadata: str) -> Asked | None:
    try:
        return parse(metadata)
    except WrongShape:
        return None  # who checked the commit has said so
