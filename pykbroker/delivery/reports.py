"""What lanes that follow commits say of what they do: log lines, counters, events."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pykbroker.delivery.counted import Holder
from pykbroker.delivery.nacks import Range, Ranges, difference, merged, shown
from pykbroker.errors import KafkaError
from pykbroker.forwarding.plan import Move, Place

if TYPE_CHECKING:
    from pykbroker.catalog.image import Topic
    from pykbroker.delivery.draft import Draft
    from pykbroker.delivery.orders import Order
    from pykbroker.delivery.telling import Telling

log = logging.getLogger(__name__)

ASIDE: Final = "pykbroker.nack.aside"
"""The read-only setting of a group, described only to those who name it."""
MAX_BYTES: Final = 32_767
"""The longest text that all clients can read in an answer."""
REMEMBERED: Final = 1000
"""Groups and partitions of which it is remembered what was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowingStatistics:
    """Counted since the start: records that were ``nacked``, letters that were ``replayed`` and ``purged``;
    offsets that were named and are not there (``skipped``); commits with nacks that count nowhere
    (``ignored``).  Now: commits that are ``waiting``, because there is much to do, or because the topics
    that they need cannot be made."""

    nacked: int = 0
    skipped: int = 0
    ignored: int = 0
    replayed: int = 0
    purged: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """What commits for one partition ask that stands aside: which offsets, at most.  ``why``: it cannot be
    done now, and is tried again; "": it is being done, and is only much."""

    holder: Holder
    ranges: Ranges
    why: str = ""

    @property
    def offsets(self) -> int:
        """How many."""
        return sum(last - first + 1 for first, last in self.ranges)

    def fields(self) -> dict[str, object]:
        """As JSON has them."""
        return {"records": self.offsets, "why": self.why}


def described(asides: Iterable[tuple[str, Aside]], limit: int = MAX_BYTES) -> str:
    """The setting :data:`ASIDE`, of these with the names of their topics; the first ones where all were too
    long."""
    rows = [{"topic": topic, "partition": each.holder.partition, **each.fields()} for topic, each in asides]
    whole = len(rows)
    while len(text := json.dumps({"aside": rows, "more": whole - len(rows)})) > limit:
        del rows[len(rows) // 2 :]
    return text


class Reports:
    """Of all lanes of a broker.  ``name_of`` a topic id is for log lines; ``hold`` is told which logs
    planned moves still read."""

    def __init__(
        self, telling: Telling, name_of: Callable[[bytes], str], hold: Callable[[Place], None]
    ) -> None:
        self._telling = telling
        self._name_of = name_of
        self._hold = hold
        self._skipped: dict[Holder, Ranges] = {}
        self._ignored: set[tuple[str, bytes]] = set()
        self.nacked = self.skipped = self.ignored = self.replayed = self.purged = 0

    def planned(self, draft: Draft) -> None:
        """This is durable."""
        for _, source, _ in draft.offsets:
            self._hold(source)
        self.nacked += draft.nacked
        self.purged += draft.purged
        self.replayed += len(draft.replayed)
        for holder, topic, ranges in draft.skipped:
            self._skip(holder, topic, ranges)
        for holder, topic, offset, to, due_ms in draft.replayed:
            self._telling.replayed(topic, holder.partition, offset, to, due_ms)
        for order, why in draft.refused:
            log.error(
                "what a commit asks cannot be done any more: group=%s partition=%s-%d offsets=%s: %s",
                order.holder.group, self._name_of(order.holder.topic_id), order.holder.partition,
                shown(order.ranges), why,
            )  # fmt: skip
            self._count_and_tell(order.holder, self._name_of(order.holder.topic_id), order.ranges)

    def planned_before(self, moves: Iterable[Move]) -> None:
        """These moves are still to be executed, after a start."""
        for source in {move.source for move in moves}:
            if source is not None:
                self._hold(source)

    def _skip(self, holder: Holder, topic: str, ranges: Sequence[Range]) -> None:
        """Say once that these offsets are not there, however often they are named."""
        said = self._skipped.pop(holder, ())
        fresh = difference(merged(ranges), said)
        if len(self._skipped) >= REMEMBERED:
            del self._skipped[next(iter(self._skipped))]
        self._skipped[holder] = merged((*said, *fresh))[-REMEMBERED:] if len(said) < REMEMBERED else fresh
        if not fresh:
            return
        log.warning(
            "offsets that a commit names are not there, and skipped: group=%s partition=%s-%d offsets=%s",
            holder.group, topic, holder.partition, shown(fresh),
        )  # fmt: skip
        self._count_and_tell(holder, topic, fresh)

    def _count_and_tell(self, holder: Holder, topic: str, ranges: Ranges) -> None:
        self.skipped += sum(last - first + 1 for first, last in ranges)
        self._telling.skipped(topic, holder.partition, holder.group, ranges)

    def lost(self, source: Place, offsets: Sequence[int]) -> None:
        """Records were deleted before they were moved."""
        log.error(
            "records are gone that were still to be moved: partition=%s-%d offsets=%s",
            self._name_of(source.topic_id), source.partition,
            shown(merged((offset, offset) for offset in offsets)),
        )  # fmt: skip

    def ignored_nack(self, group: str, topic: Topic) -> None:
        """A nack that is not interpreted where somebody may have thought it is."""
        self.ignored += 1
        if (group, topic.topic_id) in self._ignored:
            return
        if len(self._ignored) >= REMEMBERED:
            self._ignored.clear()
        self._ignored.add((group, topic.topic_id))
        log.warning(
            "nacks do not count here, the commits are applied: group=%s topic=%s: it is a dead-letter topic, "
            "another group's retry topic, or the broker's own", group, topic.name,
        )  # fmt: skip

    def stuck(self, order: Order, error: KafkaError) -> None:
        """An order cannot be carried out now."""
        log.warning(
            "what a commit asks waits: group=%s partition=%s-%d offsets=%s: %s",
            order.holder.group, self._name_of(order.holder.topic_id), order.holder.partition,
            shown(order.ranges), error,
        )  # fmt: skip
