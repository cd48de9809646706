"""Dead-letter topics as a client sees them: which there are, what was settled, their letters one by one."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pykbroker.cli._errors import Failed
from pykbroker.cli._exchanges import exchanges, image_of
from pykbroker.cli._letters import Filter, Letter, Place, Range, Ranges, parse_settled, settled_pages
from pykbroker.cli._progress import CountProgress
from pykbroker.cli._returning import NOTHING, RETURNING, Returning

if TYPE_CHECKING:
    from pykbroker.catalog.retrying import Role
    from pykbroker.client import Client
    from pykbroker.records.decode import Record

ROLE, SETTLED = "pykbroker.role", "pykbroker.dead.letter.settled"
TARGET, EXCHANGE = "pykbroker.dead.letter.topic", "pykbroker.exchange.type"

NEAR = 1000
"""A gap of fewer offsets is read through: cheaper than to ask again behind it."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Where the letters of a partition begin and end, and which of them are settled."""

    index: int
    start: int
    end: int
    settled: Ranges

    @property
    def waiting(self) -> int:
        """How many letters nobody replayed or purged."""
        return self.end - self.start - self.done

    @property
    def done(self) -> int:
        """How many were replayed or purged and are still in the log."""
        return self.settled.count(self.start, self.end)


@dataclass(frozen=True, kw_only=True)
class DeadLetters:
    """A topic with dead letters, at ``now_ms``.  ``role`` is None where it is shared, or somebody else's."""

    topic: str
    role: Role | None
    partitions: Sequence[Partition]
    now_ms: int
    """The broker's time, from which are the times in letters; that of this machine where it does not tell."""
    returning: Returning = NOTHING


async def roles(client: Client) -> dict[str, Role]:
    """All topics that have a role."""
    from pykbroker.catalog.retrying import Role

    found = {name: Role.parse(of.get(ROLE, "")) for name, of in (await _all_settings(client, ROLE)).items()}
    return {name: role for name, role in found.items() if role is not None}


async def dead_letter_topics(client: Client) -> dict[str, Role | None]:
    """All topics for dead letters: those made for a group, with their role, and those that some setting
    names, which several may share.  Of an exchange, letters are where its bindings lead."""
    from pykbroker.catalog.exchanges import reached
    from pykbroker.catalog.retrying import Role, sanitised
    from pykbroker.client.calls import settings_of_groups
    from pykbroker.config.templates import filled, is_per_group

    topics = await _all_settings(client, ROLE, TARGET, EXCHANGE)
    groups = await settings_of_groups(client, [TARGET])
    known = {name: Role.parse(of.get(ROLE, "")) for name, of in topics.items()}
    named: list[tuple[str, Iterable[str], Iterable[str]]] = []
    named += [(of.get(TARGET, ""), [name], groups) for name, of in topics.items()]
    named += [(of.get(TARGET, ""), topics, [name]) for name, of in groups.items()]
    shared: set[str] = set()
    for template, origins, members in named:
        if not is_per_group(template):
            for origin in origins if "{topic}" in template else [""]:
                of_groups = members if "{group}" in template else [""]
                shared.update(filled(template, origin, sanitised(group)) for group in of_groups)
    routing = [name for name in shared if name in topics and topics[name].get(EXCHANGE)]
    if routing:
        image = image_of(await exchanges(client))
        shared = shared.union(*(reached(image, name) for name in routing))
    return {
        name: role
        for name, role in known.items()
        if (name in shared and not topics[name].get(EXCHANGE)) or (role is not None and role.kind == "dlq")
    }


async def _all_settings(client: Client, *keys: str) -> dict[str, dict[str, str]]:
    names = sorted(
        each.name for each in (await client.metadata()).topics if each.name and not each.is_internal
    )
    return await settings(client, names, *keys)


async def settings(client: Client, names: Sequence[str], *keys: str) -> dict[str, dict[str, str]]:
    """By topic, the values of these settings."""
    from pykbroker.client.calls import settings_of_topics

    return await settings_of_topics(client, names, keys)


async def dead_letters(client: Client, topic: str) -> DeadLetters:
    """``topic`` as it is now; raises :class:`Failed` if there is none."""
    from pykbroker.catalog.retrying import Role
    from pykbroker.client.client import EARLIEST, LATEST
    from pykbroker.errors import ErrorCode

    (found,) = (await client.metadata([topic])).topics
    if found.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        raise Failed(
            f"there is no topic {topic}", "`pykbroker dlq list` shows the dead-letter topics there are"
        )
    if found.error_code:
        raise Failed(f"{topic}: {ErrorCode(found.error_code).name}")
    settled = await settled_letters(client, topic)
    has = (await settings(client, [topic], ROLE, RETURNING)).get(topic, {})
    returning = Returning.parse(has.get(RETURNING, ""))
    partitions = [
        Partition(
            index=index,
            start=await client.offset(topic, index, EARLIEST),
            end=await client.offset(topic, index, LATEST),
            settled=settled.get(index, Ranges()),
        )
        for index in sorted(each.partition_index for each in found.partitions)
    ]
    return DeadLetters(
        topic=topic,
        role=Role.parse(has.get(ROLE, "")),
        partitions=partitions,
        now_ms=time.time_ns() // 1_000_000 if returning.now_ms is None else returning.now_ms,
        returning=returning,
    )


async def settled_letters(client: Client, topic: str) -> dict[int, Ranges]:
    """By partition, what was replayed or purged."""
    text = (await settings(client, [topic], SETTLED)).get(topic, {}).get(SETTLED, "")
    names = [f"{SETTLED}.{number}" for number in range(settled_pages(text))]
    if not names:
        return parse_settled([text])
    pages = (await settings(client, [topic], *names)).get(topic, {})
    return parse_settled(pages.get(name, "") for name in names)


async def letters(
    client: Client, found: DeadLetters, *, settled: bool = False, places: Sequence[Place] = ()
) -> AsyncGenerator[Letter, None]:
    """The letters one by one, partition by partition; with ``settled`` those that are settled instead.

    ``places``: only these.  Reads nothing that it need not show, and holds one answer at a time.
    """
    from pykbroker.client.calls import records

    for partition in found.partitions:
        wanted = Ranges(_wanted(found.topic, partition, settled, places))
        for first, last in _spans(wanted):
            batches = records(client, found.topic, partition.index, first, last + 1)
            async with aclosing(batches) as read:
                async for record in read:
                    if record.offset in wanted:
                        yield _letter(found.topic, partition.index, record)


def _letter(topic: str, partition: int, record: Record) -> Letter:
    return Letter(
        topic=topic,
        partition=partition,
        offset=record.offset,
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=record.headers,
    )


def _wanted(topic: str, partition: Partition, settled: bool, places: Sequence[Place]) -> list[Range]:
    """The ranges of a partition to read, in order."""
    everything = [(partition.start, partition.end - 1)]
    if places:
        everything = list(
            Ranges(
                (max(place.first, partition.start), min(place.last, partition.end - 1))
                for place in places
                if (place.topic, place.partition) == (topic, partition.index)
                and place.first < partition.end
                and place.last >= partition.start
            )
        )
    wanted: list[Range] = []
    for first, last in everything:
        wanted += (
            _within(partition.settled, first, last) if settled else _outside(partition.settled, first, last)
        )
    return wanted


def _spans(wanted: Ranges) -> Ranges:
    """What to read: ranges that lie close together in one go."""
    spans = Ranges()
    end = None
    for first, last in wanted:
        spans.add(first if end is None or first - end > NEAR else end, last)
        end = last
    return spans


def _within(ranges: Ranges, first: int, last: int) -> list[Range]:
    return [(max(low, first), min(high, last)) for low, high in ranges if low <= last and high >= first]


def _outside(ranges: Ranges, first: int, last: int) -> list[Range]:
    gaps: list[Range] = []
    for low, high in _within(ranges, first, last):
        if first < low:
            gaps.append((first, low - 1))
        first = high + 1
    return [*gaps, (first, last)] if first <= last else gaps


@dataclass
class Chosen:
    """What a filter leaves of a topic, as offsets by partition."""

    found: DeadLetters
    ranges: dict[int, Ranges] = field(default_factory=dict)
    count: int = 0
    homeless: int = 0
    """Letters that do not say which topic they came from."""

    def end(self, partition: int) -> int:
        """The log end of a partition when it was looked at."""
        return next(each.end for each in self.found.partitions if each.index == partition)


async def choose(client: Client, found: DeadLetters, wanted: Filter, places: Sequence[Place]) -> Chosen:
    """Read through a topic and note which letters are meant."""
    chosen = Chosen(found)
    seen = 0
    total = sum(each.waiting for each in found.partitions)
    async with aclosing(letters(client, found, places=places)) as read:
        with CountProgress("looking", total) as bar:
            async for letter in read:
                seen += 1
                bar(seen)
                if wanted.matches(letter, found.now_ms):
                    chosen.ranges.setdefault(letter.partition, Ranges()).add(letter.offset)
                    chosen.count += 1
                    chosen.homeless += letter.origin is None
    return chosen


async def newest(client: Client, found: DeadLetters) -> int | None:
    """When the youngest of the letters that wait failed, as far as the ends of partitions tell."""
    last: list[int] = []
    for partition in found.partitions:
        ranges = _wanted(found.topic, partition, False, ())
        if ranges:
            place = Place(found.topic, partition.index, ranges[-1][1], ranges[-1][1])
            last += [letter.failed_ms async for letter in letters(client, found, places=[place])]
    return max(last, default=None)
