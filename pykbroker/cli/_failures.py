"""What of a group's records has failed: what waits for its retry, and the letters that nobody settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykbroker.cli._client import Row
from pykbroker.cli._dead_letters import DeadLetters, dead_letters
from pykbroker.cli._waiting import Waiting, fields, waiting_records

if TYPE_CHECKING:
    from pykbroker.catalog.retrying import Role
    from pykbroker.client import Client


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Those on one topic, ``origin``.  ``letters`` is None where they go to a topic that is not the group's
    alone."""

    origin: str
    retry_topic: str | None = None
    waiting: Waiting | None = None
    letters: DeadLetters | None = None

    def __str__(self) -> str:
        lines: list[tuple[str, str]] = []
        if self.retry_topic is not None and self.waiting is not None:
            lines.append((self.retry_topic, f"waiting: {self.waiting}"))
        if self.letters is not None:
            lines.append((self.letters.topic, f"letters: {sum(e.waiting for e in self.letters.partitions)}"))
        width = max((len(topic) for topic, _ in lines), default=0)
        return "\n".join(f"{topic:<{width}}  {said}" for topic, said in lines)

    def fields(self, partition: int) -> dict[str, object]:
        """Of one partition, which has the same number in all three topics."""
        parts = () if self.letters is None else self.letters.partitions
        return {
            "retry_topic": self.retry_topic,
            **fields(None if self.waiting is None else self.waiting.of(partition)),
            "dead_letter_topic": None if self.letters is None else self.letters.topic,
            "letters": next((each.waiting for each in parts if each.index == partition), None),
        }


async def failures(client: Client, roles: Mapping[str, Role]) -> list[Failures]:
    """Of a group, whose topics have these roles."""
    retries = {role.origin: topic for topic, role in roles.items() if role.kind == "retry"}
    letters = {role.origin: topic for topic, role in roles.items() if role.kind == "dlq"}
    waiting = await waiting_records(client, sorted(retries.values()))
    return [
        Failures(
            origin=origin,
            retry_topic=retries.get(origin),
            waiting=waiting.get(retries.get(origin, "")),
            letters=await dead_letters(client, letters[origin]) if origin in letters else None,
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
