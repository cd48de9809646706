"""What waits to get into a retry topic, or one that delays: how many records, until when, and what is stuck.

It is asked for by name in DescribeConfigs of the topic (:data:`WAITING`): a JSON object such as
``{"waiting": 12, "next_due_ms": 1790000000000, "stuck": 1, "by_partition": {"0": {...}}}``.

Nothing is looked through for it: lanes keep count of what they index and release, and an index that is begun
is counted in its own thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pykbroker.delivery.index import Index, IndexLost, IndexUnavailable

if TYPE_CHECKING:
    from pykbroker.delivery.flow_lane import FlowPartition
    from pykbroker.delivery.releasing import ReleaseWork
    from pykbroker.forwarding.engine import Engine
    from pykbroker.forwarding.plan import Place

WAITING: Final = "pykbroker.delay.waiting"
"""The read-only setting of a topic, described only to those who name it."""

MAX_REASONS: Final = 20
"""Reasons that are told, of which each is a few hundred bytes."""
MAX_BYTES: Final = 32_767
"""The longest text that all clients can read in an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """``records`` have come to their time, and cannot go to the topic ``to``: ``why``, and what would
    ``help``."""

    to: str
    records: int
    why: str
    help: str

    def fields(self) -> dict[str, object]:
        """As JSON has them."""
        return {"to": self.to, "records": self.records, "why": self.why, "help": self.help}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """``waiting`` records have not come to their time, and the next one does at ``next_due_ms`` (None: not
    known, or nothing waits).  ``stuck`` ones are beyond it: their destination is not there, or refuses them;
    ``reasons`` say which one, and why.

    While ``indexing``, not all that is there is looked at yet, and the numbers are too low or about right.
    """

    waiting: int = 0
    next_due_ms: int | None = None
    stuck: int = 0
    indexing: bool = False
    reasons: tuple[Stuck, ...] = ()

    @classmethod
    def together(cls, parts: Iterable[Waiting]) -> Waiting:
        """Of several partitions."""
        parts = tuple(parts)
        return cls(
            waiting=sum(each.waiting for each in parts),
            next_due_ms=min(
                (each.next_due_ms for each in parts if each.next_due_ms is not None), default=None
            ),
            stuck=sum(each.stuck for each in parts),
            indexing=any(each.indexing for each in parts),
            reasons=together(reason for each in parts for reason in each.reasons),
        )

    def fields(self) -> dict[str, object]:
        """As JSON has them; ``indexing`` only where it is so."""
        shown: dict[str, object] = {
            "waiting": self.waiting,
            "next_due_ms": self.next_due_ms,
            "stuck": self.stuck,
        }
        return shown | {"indexing": True} if self.indexing else shown


def together(reasons: Iterable[Stuck]) -> tuple[Stuck, ...]:
    """One for each topic and reason."""
    records: dict[Stuck, int] = {}
    for each in reasons:
        key = replace(each, records=0)
        records[key] = records.get(key, 0) + each.records
    return tuple(replace(each, records=count) for each, count in records.items())


NOTHING: Final = Waiting()
UNKNOWN: Final = Waiting(indexing=True)


def described(parts: Mapping[int, Waiting], limit: int = MAX_BYTES) -> str:
    """The setting.  Partitions in which nothing is are not listed, and none where that were too long."""
    everything = Waiting.together(parts.values())
    whole = everything.fields()
    if everything.reasons:
        whole["reasons"] = [each.fields() for each in everything.reasons[:MAX_REASONS]]
    listed = {str(number): each.fields() for number, each in parts.items() if each != NOTHING}
    text = _text(whole | {"by_partition": listed})
    return text if len(text) <= limit else _text(whole)


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


async def waiting_in(flow: FlowPartition, engine: Engine, index: Index) -> Waiting:
    """What waits in one partition of a flow."""
    work, place = flow.work, flow.place
    if work is None or place is None:
        return NOTHING if flow.is_empty(engine) else UNKNOWN
    waiting, indexing = work.indexing.waiting + work.unindexed, work.is_indexing
    arriving, delayed = flow.arriving, flow.delayed
    if arriving is not None and delayed is not None:
        if arriving.has_begun:
            waiting += max(0, delayed.log_end_offset - arriving.position)
        indexing = indexing or not arriving.is_idle
    reasons = stuck_in(flow, engine)
    due_ms = None
    if waiting and not work.is_lost:
        due_ms = work.alarm.due_ms
        if due_ms is None:
            due_ms = await _next_due_ms(work, place, index)
    stuck = sum(each.records for each in reasons)
    return Waiting(
        waiting=waiting, next_due_ms=due_ms, stuck=stuck, indexing=indexing, reasons=together(reasons)
    )


def stuck_in(flow: FlowPartition, engine: Engine) -> list[Stuck]:
    """What has come to its time in one partition of a flow, and cannot go where it should."""
    work, place = flow.work, flow.place
    runner = None if place is None else engine.runner(place)
    if runner is None or work is None:
        return []
    return [
        replace(work.stuck_at(target.topic_id), records=records)
        for target, records in runner.waiting_at().items()
    ]


async def _next_due_ms(work: ReleaseWork, place: Place, index: Index) -> int | None:
    """Looked up while a lane is so busy with what is due that it has no alarm set."""
    era = work.durable.eras[-1]
    try:
        rows = await index.above(place, era.horizon, 1, era.start, 1 << 62)
    except (IndexLost, IndexUnavailable):
        return None
    return rows[0].due_ms if rows else None
