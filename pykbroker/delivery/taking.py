"""Records that an order names: as many as fit into a step, and count for the first time."""

from __future__ import annotations

from dataclasses import replace

from pykbroker.delivery.counted import Counted
from pykbroker.delivery.draft import Draft
from pykbroker.delivery.nacks import Ranges, clipped
from pykbroker.delivery.orders import Order
from pykbroker.delivery.selecting import Logs, Selection, select
from pykbroker.forwarding.plan import Place


async def take(order: Order, there: Ranges, counted: Counted, logs: Logs, draft: Draft) -> Selection:
    """Those of the offsets ``there`` that do not count yet, and for which ``draft`` has room.

    Raises :class:`KafkaError` where they cannot be read now.
    """
    holder = order.holder
    place = Place(holder.topic_id, holder.partition)
    wanted = counted.missing(holder, there)
    return await select(logs, place, wanted, draft.records_left, draft.bytes_left)


def count(order: Order, taken: Selection, counted: Counted, draft: Draft) -> None:
    """From now on they count."""
    counted.add(order.holder, ((offset, offset) for offset in taken.records), draft.changes)


def left(order: Order, taken: Selection, there: Ranges) -> Order | None:
    """What there was no room for, if anything."""
    if taken.rest is None or not there:
        return None
    rest = clipped(order.ranges, taken.rest, there[-1][1] + 1)
    return replace(order, ranges=rest) if rest else None
