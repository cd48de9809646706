"""What waits for a retry or a delay, as commands show it; a broker that does not say so has none of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pykbroker.client import Client

WAITING = "pykbroker.delay.waiting"


@dataclass(frozen=True, kw_only=True)
class Stuck:
    """``records`` cannot go to the topic ``to``: ``why``, and what would ``help``."""

    to: str
    records: int
    why: str
    help: str

    @staticmethod
    def of(found: Mapping[str, object]) -> Stuck:
        """From JSON."""
        to, why, help_ = (str(found.get(name, "")) for name in ("to", "why", "help"))
        return Stuck(to=to, records=int(str(found.get("records", 0))), why=why, help=help_)

    def __str__(self) -> str:
        return f"{self.records} cannot go to {self.to or 'their topic'}: {self.why}; {self.help}"


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What waits to get into a topic, or into one partition of it; see ``docs/failed-deliveries.md``.

    ``by_partition`` is None where the broker does not tell partitions apart, for there are too many.
    """

    waiting: int = 0
    next_due_ms: int | None = None
    stuck: int = 0
    indexing: bool = False
    by_partition: Mapping[int, Waiting] | None = field(default_factory=dict)
    reasons: Sequence[Stuck] = ()
    """Why those that are stuck are."""

    @staticmethod
    def parse(text: str) -> Waiting:
        """From the setting."""
        found = json.loads(text)
        parts = found.pop("by_partition", None)
        listed = None if parts is None else {int(number): Waiting(**each) for number, each in parts.items()}
        reasons = [Stuck.of(each) for each in found.pop("reasons", ())]
        return Waiting(**found, by_partition=listed, reasons=reasons)

    def of(self, partition: int) -> Waiting | None:
        """What waits to get into that partition."""
        return None if self.by_partition is None else self.by_partition.get(partition, Waiting())

    def __str__(self) -> str:
        words = [_count(self.waiting) if self.waiting else "nothing"]
        if self.waiting and self.next_due_ms is not None:
            words.append(f"the next at {moment(self.next_due_ms)}")
        if self.stuck:
            words.append(f"{self.stuck} stuck")
        if self.indexing:
            words.append("still being counted")
        return ", ".join(words)


def why_stuck(found: Waiting | None) -> str:
    """Lines that say why, each with a line break in front of it."""
    return "".join(f"\n  {each}" for each in (() if found is None else found.reasons))


def fields(found: Waiting | None) -> dict[str, object]:
    """For a row of JSON; null where it is not known."""
    return {
        "waiting": None if found is None else found.waiting,
        "next_due_ms": None if found is None else found.next_due_ms,
        "stuck": None if found is None else found.stuck,
        "indexing": None if found is None else found.indexing,
    }


async def waiting_records(client: Client, topics: Sequence[str]) -> dict[str, Waiting]:
    """By topic, what waits; topics into which nothing ever does are left out."""
    from pykbroker.client.calls import settings_of_topics

    found = await settings_of_topics(client, topics, [WAITING])
    return {topic: Waiting.parse(has[WAITING]) for topic, has in found.items() if WAITING in has}


def _count(records: int) -> str:
    return "1 record" if records == 1 else f"{records} records"


def moment(ms: int) -> str:
    """A time of the broker (ms), as it is shown."""
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return str(ms)
