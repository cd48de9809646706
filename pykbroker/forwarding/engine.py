"""Lanes for whoever else moves records: start a :class:`Runner` for any ingress place, see what is durable.

:attr:`~pykbroker.forwarding.service.Forwarding.engine` is the one of a broker.  Its runners stop when
forwarding shuts down, and each when the topic of its ingress place is deleted; its lane is forgotten then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import trio

from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.machine import Lane
from pykbroker.forwarding.plan import Place
from pykbroker.forwarding.runner import Around, Runner
from pykbroker.forwarding.shards import Shards
from pykbroker.forwarding.work import Work

if TYPE_CHECKING:
    from pykbroker.partitions.partition import Partition


class _Running:
    """One runner that was asked for."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.runner: Runner | None = None
        self.ready = trio.Event()
        self.ended = trio.Event()


class Engine:
    """Used in the loop's thread only."""

    def __init__(self, shards: Shards, around: Around) -> None:
        self.shards = shards
        self.around = around
        self.landing: Callable[[Partition], Partition | None] | None = None
        """Where what is produced to a partition goes instead, if another lane has a log in front of it."""
        self._nursery: trio.Nursery | None = None
        self._running: dict[Place, _Running] = {}
        self._on_opened: list[Callable[[Partition], None]] = []

    # -- life, for Forwarding

    def begin(self, nursery: trio.Nursery) -> None:
        """Have runners be tasks of ``nursery``; the shards have begun."""
        self._nursery = nursery

    def opened(self, partition: Partition) -> None:
        """A partition is there."""
        for tell in tuple(self._on_opened):
            tell(partition)

    def on_deleted(self, gone: Collection[bytes]) -> None:
        """Stop the runners of topics that do not exist any more."""
        for ingress in tuple(self._running):
            if ingress.topic_id in gone:
                self.stop(ingress)

    # -- what is known

    async def loaded(self, ingress: Place) -> None:
        """Return when it is known what is planned for ``ingress`` (at once if there is no log of plans)."""
        await self.shards.loaded(ingress)

    def is_loaded(self, ingress: Place) -> bool:
        """Whether it is known."""
        return self.shards.begun.is_set() and not self.shards.is_loading(ingress)

    def on_loaded(self, tell: Callable[[int], None]) -> None:
        """Have ``tell`` called with the number of each shard (``shards.index_of(ingress)``) when what it
        holds is known; also, at once, for those that are loaded."""
        self.shards.on_loaded(tell)

    def on_opened(self, tell: Callable[[Partition], None]) -> None:
        """Have ``tell`` called with each partition, of whatever topic, that is opened from now on."""
        self._on_opened.append(tell)

    def lane(self, ingress: Place) -> Lane | None:
        """The durable state of a lane, live, not to be changed; None: there is none, or not known yet."""
        return self.shards.lane(ingress)

    def extras(self, ingress: Place) -> Mapping[bytes, bytes]:
        """The small values of a lane, live; empty if there is no lane, or that is not known yet."""
        lane = self.shards.lane(ingress)
        return {} if lane is None else lane.extras

    def settled(self, ingress: Place) -> int:
        """The position below which everything is decided and moved, durably; 0 if not known yet."""
        lane = self.shards.lane(ingress)
        return 0 if lane is None else lane.settled

    def source_needed_from(self, source: Place) -> int | None:
        """The lowest offset of the log ``source`` that an open plan of any lane still has to move (as a
        named source); None: no plan has, and 0 while that is not known yet."""
        if not self.shards.begun.is_set():
            return 0
        lowest: int | None = None
        for machine in self.shards.machines():
            if machine is None:
                return 0
            for lane in machine.busy.values():
                for plan in lane.plans.values():
                    for move in plan.moves:
                        if move.source == source:
                            first = min(move.offsets)
                            lowest = first if lowest is None else min(lowest, first)
        return lowest

    def is_target(self, topic_ids: Collection[bytes]) -> bool:
        """Whether an open plan of any lane moves something to one of these topics; True while that is not
        known yet."""
        if not self.shards.begun.is_set():
            return True
        for machine in self.shards.machines():
            if machine is None:
                return True
            plans = (plan for lane in machine.busy.values() for plan in lane.plans.values())
            if any(move.target.topic_id in topic_ids for plan in plans for move in plan.moves):
                return True
        return False

    # -- runners

    def runner(self, ingress: Place) -> Runner | None:
        """The runner that has been started for ``ingress``, if it was not stopped."""
        entry = self._running.get(ingress)
        return None if entry is None or entry.scope.cancel_called else entry.runner

    def runners(self) -> Mapping[Place, Runner]:
        """All that have been started and not stopped."""
        found = ((ingress, self.runner(ingress)) for ingress in self._running)
        return {ingress: runner for ingress, runner in found if runner is not None}

    async def start(self, ingress: Place, work: Work) -> Runner:
        """Start a runner; its lane begins if it has never been there.  Waits for the log of plans.

        One place has one runner: a second start returns the first one.  One that is being stopped has ended
        when another begins.  Raises :class:`KafkaError` NOT_LEADER_OR_FOLLOWER where it was stopped
        meanwhile, or forwarding has shut down.
        """
        await self.shards.begun.wait()
        while (entry := self._running.get(ingress)) is not None and entry.scope.cancel_called:
            await entry.ended.wait()
        if entry is None:
            if self._nursery is None:
                raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "forwarding has shut down")
            entry = self._running[ingress] = _Running()
            self._nursery.start_soon(self._run, ingress, work, entry)
        await entry.ready.wait()
        if entry.runner is None:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"stopped before it began: {work.label}")
        return entry.runner

    async def _run(self, ingress: Place, work: Work, entry: _Running) -> None:
        try:
            with entry.scope:
                shard = await self.shards.of(ingress)
                entry.runner = Runner(ingress, work, shard, self.around)
                entry.ready.set()
                await entry.runner.run()
        finally:
            del self._running[ingress]
            entry.ready.set()
            entry.ended.set()

    def stop(self, ingress: Place) -> None:
        """Stop the runner, if there is one; what is planned is executed when it is started again."""
        if (entry := self._running.get(ingress)) is not None:
            entry.scope.cancel()

    def shutdown(self) -> None:
        """No more runners; those that run end with the nursery."""
        self._nursery = None
