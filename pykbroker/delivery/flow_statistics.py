"""How much goes through all flows of a broker, and what waits in them: for metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pykbroker.delivery.flow_lane import FlowPartition
    from pykbroker.forwarding.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStatistics:
    """``arrived`` records were decided about and ``released`` ones moved on, since the start.  Now:
    ``lanes`` that are at work, ``waiting`` records that are indexed and not released, ``stuck`` moves whose
    destination refuses them or is not there, and the time at which the next record is due."""

    arrived: int = 0
    released: int = 0
    lanes: int = 0
    waiting: int = 0
    stuck: int = 0
    next_due_ms: int | None = None


def counted(flows: Iterable[FlowPartition], engine: Engine, *, arrived: int, released: int) -> FlowStatistics:
    """Those of ``flows`` now; ``arrived`` and ``released`` is what lanes did that have stopped."""
    works = {flow: flow.work for flow in flows if flow.work is not None}
    arriving = [flow.arriving for flow in works if flow.arriving is not None]
    runners = [engine.runner(flow.place) for flow in works if flow.place is not None]
    due = [work.alarm.due_ms for work in works.values() if work.alarm.due_ms is not None]
    return FlowStatistics(
        arrived=arrived + sum(each.arrived for each in arriving),
        released=released + sum(work.released for work in works.values()),
        lanes=len(works),
        waiting=sum(work.indexing.waiting for work in works.values()),
        stuck=sum(runner.waiting_moves for runner in runners if runner is not None),
        next_due_ms=min(due, default=None),
    )
