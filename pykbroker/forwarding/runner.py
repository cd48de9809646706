"""Runs a :class:`~pykbroker.forwarding.work.Work`: plans, executes, begins again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pykbroker.forwarding.accounting import Counters
from pykbroker.forwarding.plan import Place
from pykbroker.forwarding.shards import ForwardShard
from pykbroker.forwarding.targets import TargetPort
from pykbroker.forwarding.work import Work

if TYPE_CHECKING:
    from pykbroker.clock import Clock


@dataclass(slots=True, kw_only=True)
class Around:
    """What the runners of a broker share.  ``name_of`` a topic id is for log lines."""

    clock: Clock
    port: TargetPort
    name_of: Callable[[bytes], str]
    next_producer_id: Callable[[], Awaitable[int]]
    max_decompressed: int
    counters: Counters = field(default_factory=Counters)


class Runner:
    """See the module."""

    def __init__(self, ingress: Place, work: Work, shard: ForwardShard, around: Around) -> None:
        self.ingress = ingress
        self.passed = 0
        """Position up to which everything is decided, durably."""
        raise NotImplementedError

    @property
    def open_plans(self) -> int:
        """Plans that are not done."""
        raise NotImplementedError

    @property
    def waiting_moves(self) -> int:
        """Moves whose target is not available."""
        raise NotImplementedError

    def wake(self) -> None:
        """There may be something to do.  May be called for every append, so it is quick."""
        raise NotImplementedError

    async def run(self) -> None:
        """Do the work until cancelled."""
        raise NotImplementedError
