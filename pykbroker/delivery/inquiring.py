"""What others ask of lanes that follow commits: which letters are settled, which are on their way back, which
nacks stand aside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.catalog.image import topic_id_text
from pykbroker.catalog.retrying import DLQ_GROUP
from pykbroker.delivery import reports, returning
from pykbroker.delivery.counted import PREFIX, Counted, Holder
from pykbroker.delivery.nacks import Ranges, clipped
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.plan import Place
from pykbroker.groups.hashing import partition_of
from pykbroker.groups.service import OFFSETS_TOPIC

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.image import Topic
    from pykbroker.clock import Clock
    from pykbroker.delivery.follower import Follower
    from pykbroker.delivery.reports import Aside
    from pykbroker.delivery.waiting import Stuck
    from pykbroker.forwarding.engine import Engine
    from pykbroker.partitions.manager import Partitions

PATIENCE_S: Final = 1.0
"""How long whoever asks waits for orders that were applied before."""


class Inquiries:
    """Of one broker.  ``followers`` are those there are, by the number of their partition; it is not copied.

    All raise :class:`KafkaError` COORDINATOR_LOAD_IN_PROGRESS while what is asked is not known.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        catalog: Catalog,
        partitions: Partitions,
        followers: Mapping[int, Follower],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._catalog = catalog
        self._partitions = partitions
        self._followers = followers

    async def settled(self, topic: Topic) -> Mapping[int, Ranges]:
        """The dead letters of ``topic`` that are replayed or purged, by partition; orders that are applied
        when this is called are waited for, up to a second.  Partitions without any are left out."""
        place = self._place(DLQ_GROUP)
        if place is None:
            return {}
        holders = [Holder(DLQ_GROUP, topic.topic_id, each.index) for each in topic.partitions]
        await self._caught_up(place, holders)
        begin = PREFIX + topic.topic_id
        extras = self._engine.extras(place).items()
        counted = Counted({name: value for name, value in extras if name.startswith(begin)})
        return {holder.partition: counted.ranges(holder) for holder in holders if holder in counted}

    async def returning(self, topic: Topic, stuck: Iterable[Stuck]) -> str:
        """The setting :data:`~pykbroker.delivery.returning.RETURNING` of ``topic``; ``stuck`` are all letters
        that cannot go where they should."""
        place, now_ms = self._place(DLQ_GROUP), self._clock.time_ms()
        if place is None:
            return returning.described(now_ms, (), (), ())
        asides = [
            each for each in await self._aside(place, DLQ_GROUP) if each.holder.topic_id == topic.topic_id
        ]
        return returning.described(
            now_ms, returning.read(self._engine.extras(place), topic.topic_id), asides, stuck
        )

    async def aside(self, group: str) -> str | None:
        """The setting :data:`~pykbroker.delivery.reports.ASIDE` of a group: what its nacks ask that is not
        done, and why.  None: nothing stands aside."""
        place = self._place(group)
        found = [] if place is None else await self._aside(place, group)
        rows = [(self._name_of(each.holder.topic_id), each) for each in found]
        rows.sort(key=lambda row: (row[0], row[1].holder.partition))
        return reports.described(rows) if rows else None

    def _place(self, group: str) -> Place | None:
        """Where commits of ``group`` lie; None: nobody has ever committed anything."""
        offsets = self._catalog.image.topics.get(OFFSETS_TOPIC)
        if offsets is None:
            return None
        return Place(offsets.topic_id, partition_of(group, len(offsets.partitions)))

    async def _caught_up(self, place: Place, holders: Sequence[Holder]) -> None:
        with trio.move_on_after(PATIENCE_S):
            await self._engine.loaded(place)
            follower = self._followers.get(place.partition)
            while follower is not None and not (follower.has_begun and all(map(follower.is_done, holders))):
                await follower.stepped.wait()
        if not self._engine.is_loaded(place):
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)

    async def _aside(self, place: Place, group: str) -> list[Aside]:
        await self._caught_up(place, ())
        follower = self._followers.get(place.partition)
        found = [] if follower is None else [self._within(each) for each in follower.aside(group)]
        return [each for each in found if each.ranges]

    def _within(self, aside: Aside) -> Aside:
        """Without offsets that are named and not there: "all" may be up to the highest number."""
        try:
            partition = self._partitions.get_by_id(*aside.holder[1:])
        except KafkaError:
            return replace(aside, ranges=())
        return replace(
            aside, ranges=clipped(aside.ranges, partition.log_start_offset, partition.log_end_offset)
        )

    def _name_of(self, topic_id: bytes) -> str:
        return self._catalog.image.names_by_id.get(topic_id) or topic_id_text(topic_id)
