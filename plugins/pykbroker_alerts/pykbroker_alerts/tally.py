"""Counting dead letters: by topic, group and where they went, with the latest of each."""

from __future__ import annotations

import trio

from pykbroker import RecordDeadLettered

Place = tuple[str, str, str | None]
"""Topic, group, and the dead-letter topic, which is None for what was discarded."""
Counts = dict[Place, tuple[int, RecordDeadLettered]]

PLACES = 1000
"""Places that are told apart; more are counted as one."""
OTHERS: Place = ("(others)", "(others)", "(others)")


class Tally:
    """What has been counted and not been taken yet."""

    def __init__(self) -> None:
        self._counts: Counts = {}
        self._more = trio.Event()

    def add(self, event: RecordDeadLettered) -> None:
        """Count one."""
        add(self._counts, {(event.topic, event.group, event.dead_letter_topic): (1, event)})
        self._more.set()

    async def wait(self) -> None:
        """Wait until there is something to take."""
        await self._more.wait()

    def take(self) -> Counts:
        """All that is counted; counting begins anew."""
        taken, self._counts, self._more = self._counts, {}, trio.Event()
        return taken


def add(counts: Counts, more: Counts) -> None:
    """Add what was counted later."""
    for place, (count, event) in more.items():
        if place not in counts and len(counts) >= PLACES:
            place = OTHERS
        before, _ = counts.get(place, (0, event))
        counts[place] = (before + count, event)


def entries(counts: Counts) -> list[dict[str, object]]:
    """As an alert says it."""
    return [
        {
            "topic": topic,
            "group": group,
            "dead_letter_topic": dead_letter_topic,
            "count": count,
            "latest": {
                "partition": event.partition,
                "offset": event.offset,
                "attempt": event.attempt,
                "reason": event.reason,
                "first_failure_ms": event.first_failure_ms,
            },
        }
        for (topic, group, dead_letter_topic), (count, event) in counts.items()
    ]
