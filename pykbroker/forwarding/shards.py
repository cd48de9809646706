"""The logs of plans of this broker: made when first needed, loaded at start, swept of what is gone.

Plans are in ``__pykbroker_forward``, in the partition that the hash of the ingress partition says.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import trio

from pykbroker.catalog.ingress import FORWARD_TOPIC
from pykbroker.coordinator.partition_log import PartitionLog
from pykbroker.coordinator.runtime import Shard
from pykbroker.errors import KafkaError
from pykbroker.forwarding.machine import Answer, ForwardMachine, Lane
from pykbroker.forwarding.plan import Place

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.topics import TopicAdmin
    from pykbroker.clock import Clock
    from pykbroker.partitions.manager import Partitions

log = logging.getLogger(__name__)

ForwardShard = Shard[None, Answer, ForwardMachine]

RETRY_S = 1.0
"""A log of plans that cannot be made or read is tried again after this long."""


class Shards:
    """Used in the loop's thread only."""

    def __init__(self, clock: Clock, catalog: Catalog, topics: TopicAdmin, partitions: Partitions) -> None:
        self._clock = clock
        self._catalog = catalog
        self._topics = topics
        self._partitions = partitions
        self.begun = trio.Event()
        """Set once it is known which logs of plans there are."""
        self._on_loaded: list[Callable[[int], None]] = []
        self._shards: dict[int, ForwardShard] = {}
        self._loaded: dict[int, trio.Event] = {}
        self._making = trio.Lock()
        self._nursery: trio.Nursery | None = None

    def begin(self, nursery: trio.Nursery) -> None:
        """Load what is on disk, by tasks of ``nursery``."""
        self._nursery = nursery
        for partition in tuple(self._partitions):
            if partition.topic == FORWARD_TOPIC:
                self._begin(partition.index)
        self.begun.set()

    def on_loaded(self, tell: Callable[[int], None]) -> None:
        """Have ``tell`` called with the number of each shard when what it holds is known; at once for those
        of which it is."""
        self._on_loaded.append(tell)
        for index, loaded in self._loaded.items():
            if loaded.is_set():
                tell(index)

    def resigned(self) -> None:
        """Refuse everything from now on."""
        for shard in self._shards.values():
            shard.resigned()

    def _begin(self, index: int) -> None:
        assert self._nursery is not None, "not begun"
        state = self._catalog.image.partition(FORWARD_TOPIC, index)
        assert state is not None
        log_of_plans = PartitionLog(self._partitions.get(FORWARD_TOPIC, index))
        shard: ForwardShard = Shard[None, Answer, ForwardMachine](
            f"{FORWARD_TOPIC}-{index}", ForwardMachine(), log_of_plans, self._clock
        )
        shard.epoch = state.leader_epoch
        self._shards[index] = shard
        self._loaded[index] = trio.Event()
        self._nursery.start_soon(self._load, index, shard)

    async def _load(self, index: int, shard: ForwardShard) -> None:
        while not self._loaded[index].is_set():
            try:
                await shard.elected(shard.epoch)
            except KafkaError as error:
                log.error("cannot load %s, trying again: error=%s", shard.name, error)
                await self._clock.wait_until(self._clock.monotonic() + RETRY_S)
            else:
                self._loaded[index].set()
        known, machine = self._catalog.image.names_by_id, shard.machine
        named = {each.topic_id for each in machine.lanes}
        named |= {each.topic_id for lane in machine.lanes.values() for each in lane.sequences}
        await self._forget(index, named - known.keys())
        for tell in tuple(self._on_loaded):
            tell(index)

    def index_of(self, ingress: Place) -> int | None:
        """The shard of an ingress partition; None while there is none at all."""
        topic = self._catalog.image.topics.get(FORWARD_TOPIC)
        return None if topic is None else zlib.crc32(b"%b%d" % ingress) % len(topic.partitions)

    def is_loading(self, ingress: Place) -> bool:
        """Whether it is not known yet what is planned for an ingress partition."""
        index = self.index_of(ingress)
        return index in self._loaded and not self._loaded[index].is_set()

    async def loaded(self, ingress: Place) -> None:
        """Return when it is known what is planned for an ingress partition."""
        await self.begun.wait()
        index = self.index_of(ingress)
        if index in self._loaded:
            await self._loaded[index].wait()

    def lane(self, ingress: Place) -> Lane | None:
        """The durable state of a lane; None if there is none, or that is not known yet."""
        machine = self.machine_of(ingress)
        return None if machine is None else machine.lanes.get(ingress)

    def machine_of(self, ingress: Place) -> ForwardMachine | None:
        """The state of its shard, if that is there and loaded."""
        index = self.index_of(ingress)
        if index is None or index not in self._loaded or not self._loaded[index].is_set():
            return None
        return self._shards[index].machine

    def machines(self) -> Iterator[ForwardMachine | None]:
        """All that are there; None for one that is being loaded."""
        for index, shard in self._shards.items():
            yield shard.machine if self._loaded[index].is_set() else None

    async def of(self, ingress: Place) -> ForwardShard:
        """The shard of an ingress partition, loaded; its topic is made if need be."""
        while True:
            try:
                async with self._making:
                    await self._topics.ensure_internal(FORWARD_TOPIC)
                    index = self.index_of(ingress)
                    assert index is not None
                    if index not in self._shards:
                        self._begin(index)
                await self._loaded[index].wait()
                return self._shards[index]
            except KafkaError as error:
                log.error("the log of plans is not there: %s", error)
                await self._clock.wait_until(self._clock.monotonic() + RETRY_S)

    def forget(self, gone: Iterable[bytes]) -> None:
        """Forget, soon, lanes of ingress logs and sequences of targets that do not exist any more."""
        if self._nursery is not None:
            for index in self._shards:
                self._nursery.start_soon(self._forget, index, frozenset(gone))

    async def _forget(self, index: int, gone: Iterable[bytes]) -> None:
        if not gone or not self._loaded[index].is_set():
            return  # loading ends with a look at what is gone
        shard = self._shards[index]
        machine = shard.machine
        try:
            for ingress in [each for each, lane in machine.lanes.items()]:
                if ingress not in machine.lanes:
                    continue
                if ingress.topic_id in gone:
                    await shard.ask(lambda token, _now, _ms: machine.forget(ingress, token))  # noqa: B023
                    continue
                targets = [each for each in machine.lanes[ingress].sequences if each.topic_id in gone]
                if targets:
                    await shard.ask(
                        lambda token, _now, _ms: machine.forget_targets(ingress, targets, token)  # noqa: B023
                    )
        except KafkaError as error:
            log.warning("what is gone is not forgotten yet: shard=%s error=%s", shard.name, error)
