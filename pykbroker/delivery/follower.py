"""The lane that follows the commits of one partition of ``__consumer_offsets``.

Everything below the lane's position has been decided about; what may matter behind it stands in a
:class:`~pykbroker.delivery.commit_queue.CommitQueue`.  Nothing is decided about that is not below the high
watermark.

An order that cannot be finished in one step stands aside (:mod:`~pykbroker.delivery.standing_aside`), and
so do later ones of its holder.  One for which no topics can be made is tried again after a while.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from pykbroker.coordinator.shard_log import ShardLog
from pykbroker.delivery.commit_queue import CommitQueue
from pykbroker.delivery.counted import Counted, Holder
from pykbroker.delivery.draft import Draft
from pykbroker.delivery.orders import Order
from pykbroker.delivery.places import Places
from pykbroker.delivery.reports import Aside
from pykbroker.delivery.standing_aside import StandingAside
from pykbroker.delivery.steps import Doing
from pykbroker.errors import KafkaError
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.machine import Lane
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route
from pykbroker.forwarding.work import Records, Step, Work
from pykbroker.groups.stored import OffsetRecord

if TYPE_CHECKING:
    from pykbroker.clock import Clock
    from pykbroker.delivery.reports import Reports

log = logging.getLogger(__name__)

MAX_ASIDE: Final = 10_000
"""Orders that stand aside; with more, the lane waits for some to be done."""
FAR: Final = 10_000
"""Commits behind the lane's position at which it is moved on, so that little is read after a start."""


class Ingress(NamedTuple):
    """The partition of the offsets topic as a follower needs it."""

    log: ShardLog
    leader_epoch: Callable[[], int]
    end_of_epoch: Callable[[int], int]
    """The offset at which an earlier leader epoch ended; -1 if that is not known."""


class Follower(Work):
    """See the module.  ``begin`` is the first commit that matters, where there is no lane yet; ``later`` has
    :attr:`wake` called at a monotonic time."""

    def __init__(
        self,
        label: str,
        ingress: Ingress,
        begin: int,
        doing: Doing,
        places: Places,
        clock: Clock,
        reports: Reports,
        later: Callable[[float], None],
    ) -> None:
        self.label = label
        self.wake = lambda: None
        self._ingress = ingress
        self._begin = begin
        self._doing = doing
        self._places = places
        self._clock = clock
        self._reports = reports
        self._later = later
        self._counted = Counted()
        self._aside = StandingAside()
        self._queue = CommitQueue(ingress.log, places.topic_id)
        self._noted = begin
        self.stepped = trio.Event()
        """Set, and replaced, after each step."""
        self.has_begun = False
        """Whether it is known what has been decided."""
        self._in_hand: int | None = begin
        """The first commit of the step that is not durable yet."""
        self._sweep = True

    # -- fed by the coordinator

    def applied(self, offset: int, record: OffsetRecord) -> None:
        """The coordinator has applied a record."""
        if self._queue.applied(offset, record):
            self.wake()
        elif offset - self._noted > FAR:
            self._noted = offset
            self.wake()

    @property
    def pending_from(self) -> int | None:
        """The first commit that is not decided about, durably; None: there is none."""
        return self._queue.begins if self._in_hand is None else self._in_hand

    @property
    def waits_for(self) -> int | None:
        """The high watermark for which the next order waits."""
        first = self._queue.first
        return None if first is None else first.offset + 1

    def is_done(self, holder: Holder) -> bool:
        """Whether nothing that ``holder`` has ordered is still to be done, but what is stuck."""
        return self.pending_from is None and (holder not in self._aside or self._aside.is_stuck(holder))

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be done, but what is stuck."""
        return self.has_begun and self.pending_from is None and self._aside.all_stuck

    @property
    def waiting(self) -> int:
        """Orders that stand aside."""
        return len(self._aside)

    def aside(self, group: str) -> list[Aside]:
        """What commits of ``group`` ask that stands aside."""
        return self._aside.of_group(group)

    def changed(self, gone: Collection[bytes]) -> None:
        """The catalog has changed; these topics are gone."""
        if gone and any(holder.topic_id in gone for holder in self._counted.holders()):
            self._sweep = True
            self.wake()
        if self._aside.try_again():
            self.wake()

    def rest(self) -> None:
        """Let go of what was read, if nothing is to be done."""
        if self.pending_from is None and not self._aside:
            self._doing.rest()

    def sweep(self) -> None:
        """Forget what has become pointless, soon."""
        self._sweep = True
        self.wake()

    # -- the lane

    def begin_position(self) -> int:
        return self._begin

    def leader_epoch(self) -> int:
        return self._ingress.leader_epoch()

    def end_of_decided(self, value: LaneValue) -> int:
        end = self._ingress.log.end_offset
        if value.leader_epoch != self._ingress.leader_epoch():
            end_of_epoch = self._ingress.end_of_epoch(value.leader_epoch)
            end = min(end, value.position) if end_of_epoch < 0 else end_of_epoch
        return min(end, value.position)

    async def resumed(self, lane: Lane | None, value: LaneValue) -> None:
        extras: Mapping[bytes, bytes] = {} if lane is None else lane.extras
        self._counted = Counted(extras)
        self._aside = StandingAside(extras)
        self._queue.begin(value.position)
        for holder in {*self._counted.holders(), *self._aside.holders}:
            self._retop(holder)
        self._doing.resumed(self._counted, extras)
        self.has_begun, self._in_hand, self._noted = True, None, value.position
        self._sweep = True
        if lane is not None:
            self._reports.planned_before(move for plan in lane.plans.values() for move in plan.moves)

    def _retop(self, holder: Holder) -> None:
        """See anew which commits matter to ``holder``."""
        if holder in self._queue:
            return  # until that is taken up, all that may count by then
        self._queue.set_top(holder, max(self._counted.top(holder), self._aside.top(holder)))

    # -- steps

    async def step(self, position: int) -> Step | None:
        draft = Draft(position)
        self._in_hand = None
        if self._sweep:
            self._sweep = False
            self._doing.sweep(draft)
        queue = self._queue
        # What is large must not hold up what comes.
        draft.share = 2 if queue or not queue.is_live else 1
        await self._aside.work(draft, self._clock.monotonic(), self._do, self._retop)
        draft.share = 1
        while True:
            if not queue.is_live:
                await queue.fill()
            if self._in_hand is None and (first := queue.first) is not None:
                self._in_hand = first.offset
            await self._work_queue(draft)
            if queue.is_live or queue or draft.changes or draft.offsets:
                break
        if queue.begins is None:
            self._note_distance(draft)
        step = draft.step()
        if step is None:
            self._in_hand = None
            self._stepped()
        return step

    def _stepped(self) -> None:
        """Have whoever waits look again."""
        self.stepped.set()
        self.stepped = trio.Event()

    def _note_distance(self, draft: Draft) -> None:
        """Nothing is pending: now and then it is noted how far commits were looked at."""
        seen = min(self._queue.seen, self._ingress.log.high_watermark)
        if seen - draft.position > FAR:
            draft.passed(seen - 1, is_noted=True)

    async def planned(self, step: Step, plan: Plan) -> None:
        self._in_hand = None
        self._stepped()
        assert isinstance(step.data, Draft)
        self._reports.planned(step.data)

    async def _work_queue(self, draft: Draft) -> None:
        high_watermark = self._ingress.log.high_watermark
        while draft.has_room and self.waiting < MAX_ASIDE:
            first = self._queue.first
            if first is None or first.offset >= high_watermark:
                break
            offset, holder, record = first
            order = self._doing.order(offset, holder, record)
            if order is not None:
                left: Order | None = order
                if holder not in self._aside:
                    left = await self._do(order, draft)
                if left is not None:
                    self._aside.put(left, draft.changes)
            self._queue.take()
            # Of what asks it is noted that it has been answered, once and for all, whatever the answer.
            draft.passed(offset, is_noted=first.asks)
            self._retop(holder)

    async def _do(self, order: Order, draft: Draft) -> Order | None:
        """Do what there is room for; what is left.  The same order: it is stuck."""
        try:
            return await self._doing.do(order, draft)
        except KafkaError as error:
            if not self._aside.is_stuck(order.holder):
                self._reports.stuck(order, error)
            self._later(self._aside.stick(order.holder, str(error), self._clock.monotonic()))
            return order

    # -- moves

    async def read(self, source: Place | None, offsets: Sequence[int]) -> Records:
        assert source is not None
        return await self._doing.read(source, offsets)

    def suffix(self, move: Move, index: int, record: Source) -> bytes:
        return self._doing.suffix(move, index, record)

    async def refused(
        self, move: Move, refused: Mapping[int, str], records: Records
    ) -> Sequence[Route] | None:
        return await self._doing.elsewhere(move, tuple(refused))
