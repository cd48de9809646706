"""Orders that could not be finished in one step: a line per holder, in the order of their commits.

They are small values of the lane (see :mod:`~pykbroker.delivery.orders`).  A holder whose first order cannot
be done now, because topics cannot be made, is *stuck*: it is tried again after a while, less and less often.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, KeysView, Mapping
from dataclasses import dataclass

from pykbroker.delivery import orders
from pykbroker.delivery.counted import Changes, Holder
from pykbroker.delivery.draft import Draft
from pykbroker.delivery.nacks import merged
from pykbroker.delivery.orders import Order, OrderKind
from pykbroker.delivery.reports import Aside

RETRY_S, MAX_RETRY_S = 1.0, 60.0
"""How long an order whose topics cannot be made is left alone, at first and at last."""


@dataclass(slots=True)
class _Stuck:
    until: float
    delay: float
    why: str


class StandingAside:
    """Those of one lane."""

    def __init__(self, extras: Mapping[bytes, bytes] | None = None) -> None:
        """``extras`` are the small values of the lane, of which only those of ours are looked at."""
        self._lines: dict[Holder, deque[Order]] = {}
        self._stuck: dict[Holder, _Stuck] = {}
        for name, value in sorted((extras or {}).items()):
            if name[:1] == orders.PREFIX:
                self._put(orders.decode(name, value))

    def __len__(self) -> int:
        """How many orders stand here."""
        return sum(map(len, self._lines.values()))

    def __contains__(self, holder: Holder) -> bool:
        return holder in self._lines

    @property
    def holders(self) -> KeysView[Holder]:
        """Whose orders stand here."""
        return self._lines.keys()

    @property
    def all_stuck(self) -> bool:
        """Whether nothing of what stands here can be done now."""
        return self._lines.keys() <= self._stuck.keys()

    def is_stuck(self, holder: Holder) -> bool:
        """Whether its first order cannot be done now."""
        return holder in self._stuck

    def top(self, holder: Holder) -> int:
        """The highest offset that an order of ``holder`` here commits, or asks something of; -1: none."""
        top = -1
        for order in self._lines.get(holder, ()):
            top = max(top, order.offset, *(last for _, last in order.ranges))
        return top

    def of_group(self, group: str) -> list[Aside]:
        """Which records commits of ``group`` ask for that stand here."""
        return [
            Aside(
                holder=holder,
                ranges=merged(
                    each for order in line if order.kind is not OrderKind.PURGE for each in order.ranges
                ),
                why="" if (stuck := self._stuck.get(holder)) is None else stuck.why,
            )
            for holder, line in self._lines.items()
            if holder.group == group
        ]

    def put(self, order: Order, changes: Changes) -> None:
        """Have it stand behind those of its holder."""
        self._put(order)
        changes[order.name] = order.encode()

    def _put(self, order: Order) -> None:
        self._lines.setdefault(order.holder, deque()).append(order)

    def stick(self, holder: Holder, why: str, now: float) -> float:
        """Its first order cannot be done now; the (monotonic) time at which it is tried again."""
        stuck = self._stuck.get(holder)
        delay = RETRY_S if stuck is None else min(2 * stuck.delay, MAX_RETRY_S)
        self._stuck[holder] = _Stuck(now + delay, delay, why)
        return now + delay

    def try_again(self) -> bool:
        """What is in the way may be gone; whether that is of interest to anybody."""
        for stuck in self._stuck.values():
            stuck.until = 0.0
        return bool(self._stuck)

    async def work(
        self,
        draft: Draft,
        now: float,
        do: Callable[[Order, Draft], Awaitable[Order | None]],
        worked: Callable[[Holder], None],
    ) -> None:
        """Do what ``draft`` has room for.  ``do`` answers what is left of an order, the same one where it is
        stuck; ``worked`` hears of each holder of which that was tried."""
        for holder in tuple(self._lines):
            if not draft.has_room:
                return
            stuck = self._stuck.get(holder)
            if stuck is not None and stuck.until > now:
                continue
            line = self._lines.pop(holder)
            self._lines[holder] = line  # the last one next time
            while line and draft.has_room:
                order = line[0]
                left = await do(order, draft)
                if left is order:
                    break
                self._stuck.pop(holder, None)
                if left is None:
                    line.popleft()
                    draft.changes[order.name] = None
                else:
                    line[0] = left
                    draft.changes[order.name] = left.encode()
            if not line:
                del self._lines[holder]
            worked(holder)
