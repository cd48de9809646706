"""What a lane asks of the log of plans, from one beginning to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import trio

from pykbroker.coordinator.machine import Decision
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.machine import Answer, ForwardMachine
from pykbroker.forwarding.plan import LaneValue, Place, Plan
from pykbroker.forwarding.shards import ForwardShard

Decide = Callable[[ForwardMachine, int], Decision[None, Answer]]

_V = TypeVar("_V")


class Asking:
    """``scope`` is that of all that the lane does: it ends when the log of plans fails, because then it is
    not known what was decided."""

    def __init__(self, ingress: Place, shard: ForwardShard, scope: trio.CancelScope) -> None:
        self.failure: KafkaError | None = None
        self.began = False
        """Whether the lane is there, so that it has been deleted if it is not."""
        self._ingress = ingress
        self._shard = shard
        self._scope = scope

    def fail(self, error: KafkaError) -> None:
        """Have all that the lane does end here, and begin again."""
        self.failure = error
        self._scope.cancel()

    async def ask(self, decide: Decide) -> Answer:
        """Decide, and wait until the log of plans has it.  Raises :class:`KafkaError` after :meth:`fail`."""
        machine = self._shard.machine
        try:
            if self.began and self._ingress not in machine.lanes:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the ingress partition is gone")
            return await self._shard.ask(lambda token, _now, _now_ms: decide(machine, token))
        except KafkaError as error:
            self.fail(error)
            raise

    async def plan(self, decide: Decide) -> Plan:
        """:meth:`ask` for a plan."""
        answer = await self.ask(decide)
        assert isinstance(answer, Plan)
        return answer

    async def lane(self, decide: Decide) -> LaneValue:
        """:meth:`ask` for what a lane is."""
        answer = await self.ask(decide)
        assert isinstance(answer, LaneValue)
        return answer

    async def view(self, look: Callable[[ForwardMachine], _V]) -> _V:
        """What is decided, once the log of plans has it."""
        return await self._shard.view(look)

    def plans(self) -> Mapping[int, Plan]:
        """The open ones, by slot.  Raises :class:`KafkaError` where the lane is gone."""
        lane = self._shard.machine.lanes.get(self._ingress)
        if lane is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the ingress partition is gone")
        return lane.plans
