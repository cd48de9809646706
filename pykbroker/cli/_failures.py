"""What of a group's records has failed: what waits for its retry, and the letters that nobody settled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykbroker.cli._client import Row
from pykbroker.cli._dead_letters import DeadLetters, dead_letters
from pykbroker.cli._shared_letters import Shared, shared_letters
from pykbroker.cli._waiting import Waiting, fields, waiting_records, why_stuck

if TYPE_CHECKING:
    from pykbroker.catalog.retrying import Role
    from pykbroker.client import Client


ASIDE = "pykbroker.nack.aside"


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Those on one topic, ``origin``.  ``letters`` is None where they go to a topic that is not the group's
    alone: then they are ``shared``."""

    origin: str
    retry_topic: str | None = None
    waiting: Waiting | None = None
    letters: DeadLetters | None = None
    shared: Shared | None = None

    def __str__(self) -> str:
        lines: list[tuple[str, str]] = []
        if self.retry_topic is not None and self.waiting is not None:
            lines.append((self.retry_topic, f"waiting: {self.waiting}{why_stuck(self.waiting)}"))
        if self.letters is not None:
            lines.append((self.letters.topic, f"letters: {sum(e.waiting for e in self.letters.partitions)}"))
            lines += [("", line) for line in self.letters.returning.lines(self.letters.topic)]
        elif self.shared is not None:
            lines.append((self.shared.target, str(self.shared)))
        width = max((len(topic) for topic, _ in lines), default=0)
        return "\n".join(f"{topic:<{width}}  {said}" if topic else f"  {said}" for topic, said in lines)

    def fields(self, partition: int) -> dict[str, object]:
        """Of one partition, which has the same number in all three topics."""
        parts = () if self.letters is None else self.letters.partitions
        return {
            "retry_topic": self.retry_topic,
            **fields(None if self.waiting is None else self.waiting.of(partition)),
            "dead_letter_topic": self._dead_letter_topic,
            "letters": next((each.waiting for each in parts if each.index == partition), None)
            if self.shared is None
            else self.shared.count(partition),
        }

    @property
    def _dead_letter_topic(self) -> str | None:
        if self.shared is not None:
            return self.shared.target
        return None if self.letters is None else self.letters.topic


async def failures(client: Client, group: str, roles: Mapping[str, Role]) -> list[Failures]:
    """Of a group, whose topics have these roles."""
    retries = {role.origin: topic for topic, role in roles.items() if role.kind == "retry"}
    letters = {role.origin: topic for topic, role in roles.items() if role.kind == "dlq"}
    waiting = await waiting_records(client, sorted(retries.values()))
    shared = await shared_letters(client, group, sorted(retries.keys() - letters.keys()))
    return [
        Failures(
            origin=origin,
            retry_topic=retries.get(origin),
            waiting=waiting.get(retries.get(origin, "")),
            letters=await dead_letters(client, letters[origin]) if origin in letters else None,
            shared=shared.get(origin),
        )
        for origin in sorted({*retries, *letters})
    ]


def with_failures(rows: Sequence[Row], failed: Sequence[Failures]) -> list[Row]:
    """Rows of offsets, with what failed of their partitions: at the topic where it failed, or where that is
    not among them, at the retry topic."""
    if not failed:
        return list(rows)
    topics = {row["topic"] for row in rows}
    places = {each.origin if each.origin in topics else each.retry_topic: each for each in failed}
    none = dict.fromkeys(Failures(origin="").fields(0))
    return [
        {**row, **(none if (found := places.get(str(row["topic"]))) is None else _of(found, row))}
        for row in rows
    ]


def _of(found: Failures, row: Row) -> dict[str, object]:
    return found.fields(int(str(row["partition"])))


@dataclass(frozen=True, kw_only=True)
class Aside:
    """``records`` of a partition, at most, were nacked and stand aside; "" is no reason, only much to do."""

    topic: str
    partition: int
    records: int
    why: str = ""

    @property
    def warning(self) -> tuple[str, str]:
        """What is the matter, and what to do."""
        which = "nacked record" if self.records == 1 else f"{self.records} nacked records"
        return (
            f"{which} of {self.topic}-{self.partition} cannot be retried now: {self.why}",
            "They are kept, and tried again by themselves once a minute, and when topics or settings change.",
        )


async def aside(client: Client, group: str) -> list[Aside]:
    """What nacks of a group ask that is not done yet; a broker that does not say so has none."""
    from pykbroker.client.calls import settings_of_group

    said = json.loads((await settings_of_group(client, group, [ASIDE])).get(ASIDE) or "{}")
    return [Aside(**each) for each in said.get("aside", ())]


def with_aside(rows: Sequence[Row], found: Sequence[Aside]) -> list[Row]:
    """Rows of offsets, with what stands aside of their partitions, if anything does."""
    if not found:
        return list(rows)
    places = {(each.topic, each.partition): each for each in found}
    none = Aside(topic="", partition=0, records=0)
    return [
        {**row, "aside": each.records, "aside_why": each.why or None}
        for row in rows
        for each in [places.get((str(row["topic"]), int(str(row["partition"]))), none)]
    ]
