"""One lane: deciding, planning, moving, one after the other and for ever.

What is decided, and what is read for it, is the business of a :class:`~pykbroker.forwarding.work.Work`;
:mod:`~pykbroker.forwarding.moving` moves.  That a plan is done is noted with the next one, or when there is
nothing else to do.

Whatever fails in the log of plans ends in a new beginning: the lane looks up what is planned, as after a
start, and goes on.
"""

from __future__ import annotations

import logging

import trio

from pykbroker.errors import KafkaError
from pykbroker.forwarding.asking import Asking
from pykbroker.forwarding.moving import Around, Moving
from pykbroker.forwarding.plan import LaneValue, Place
from pykbroker.forwarding.shards import ForwardShard
from pykbroker.forwarding.work import Step, Work

__all__ = ["Around", "Runner"]

log = logging.getLogger(__name__)

AGAIN_S = 1.0
"""After a failure of the log of plans, a lane begins again after this long."""
REPEAT_S = 60.0
"""One that fails again gets another log line after this long."""


class Runner:
    """Runs ``work`` as the lane of ``ingress``; see the module."""

    def __init__(self, ingress: Place, work: Work, shard: ForwardShard, around: Around) -> None:
        self.ingress = ingress
        self.passed = 0
        """Position up to which everything is decided, durably."""
        self._work = work
        self._shard = shard
        self._around = around
        self._moving: Moving | None = None
        self._wake = trio.Event()
        work.wake = self.wake

    @property
    def open_plans(self) -> int:
        """Plans that are not done."""
        return 0 if self._moving is None else len(self._moving.open)

    @property
    def waiting_moves(self) -> int:
        """Moves whose target is not available."""
        return 0 if self._moving is None else self._moving.waiting_moves

    @property
    def waiting_records(self) -> int:
        """The records in these moves."""
        return 0 if self._moving is None else self._moving.waiting_records

    def waiting_at(self) -> dict[Place, int]:
        """The same by target."""
        return {} if self._moving is None else self._moving.waiting_at()

    def wake(self) -> None:
        """There may be something to do.  May be called for every append, so it is quick."""
        self._wake.set()

    async def run(self) -> None:
        """Do the work until cancelled."""
        clock, told, failures = self._around.clock, -REPEAT_S, 0
        while True:
            async with trio.open_nursery() as nursery:
                asking = Asking(self.ingress, self._shard, nursery.cancel_scope)
                try:
                    await self._follow(asking, await self._resumed(asking, nursery))
                except KafkaError as error:
                    asking.fail(error)
            now, failures = clock.monotonic(), failures + 1
            if now - told >= REPEAT_S:
                told = now
                log.warning(
                    "forwarding begins again in a moment: from=%s failures=%d: %s",
                    self._work.label, failures, asking.failure,
                )  # fmt: skip
            await clock.wait_until(now + AGAIN_S)

    async def _resumed(self, asking: Asking, nursery: trio.Nursery) -> Moving:
        """Take up what is planned; everything of it is below the high watermark when this returns."""
        ingress, around, work = self.ingress, self._around, self._work
        lane = await asking.view(lambda machine: machine.lanes.get(ingress))
        value = await self._opened(asking) if lane is None else lane.value
        asking.began = True
        end = work.end_of_decided(value)
        if value.position > end:
            log.error(
                "%s has lost records that were moved or planned already: offsets=%d-%d",
                work.label, end, value.position - 1,
            )  # fmt: skip
            epoch = work.leader_epoch()
            value = await asking.lane(lambda machine, token: machine.restart(ingress, end, epoch, token))
        self.passed = value.position
        moving = self._moving = Moving(ingress, asking, work, around, value, nursery, self.wake)
        await work.resumed(lane, value)
        if lane is not None:
            moving.take_up(lane)
        return moving

    async def _opened(self, asking: Asking) -> LaneValue:
        producer_id = await self._around.next_producer_id()
        start, epoch = self._work.begin_position(), self._work.leader_epoch()
        return await asking.lane(
            lambda machine, token: machine.open(self.ingress, producer_id, start, epoch, token)
        )

    async def _follow(self, asking: Asking, moving: Moving) -> None:
        while True:
            self._wake = trio.Event()
            await moving.merge()
            step = await self._work.step(self.passed) if moving.has_room() else None
            if step is not None:
                await self._carry_out(step, asking, moving)
                await trio.lowlevel.checkpoint()
            elif moving.done:
                done = moving.take_done()
                await asking.ask(lambda machine, token: machine.finish(self.ingress, done, token))  # noqa: B023
            else:
                await self._wake.wait()

    async def _carry_out(self, step: Step, asking: Asking, moving: Moving) -> None:
        ingress, epoch = self.ingress, self._work.leader_epoch()
        async with moving.turn:
            routes, done = [moving.completed(route) for route in step.routes], moving.take_done()
            plan = await asking.plan(
                lambda machine, token: machine.plan(
                    ingress, step.next_position, epoch, routes, done, token, step.extras
                )
            )
            self.passed = step.next_position
            await self._work.planned(step, plan)
            await moving.execute(plan, step.records)
