"""What the members of a classic group tell each other: who wants which topics, who gets which partitions."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pykbroker.cli._errors import Failed

if TYPE_CHECKING:
    from pykbroker.cli._reader import Place


def subscription(topics: Sequence[str]) -> bytes:
    """Version 0: topics, and no data of the assignor's own."""
    parts = [struct.pack(">hi", 0, len(topics)), *map(_text, topics), struct.pack(">i", -1)]
    return b"".join(parts)


def assignment(places: Sequence[Place]) -> bytes:
    topics: dict[str, list[int]] = {}
    for topic, partition in places:
        topics.setdefault(topic, []).append(partition)
    parts = [struct.pack(">hi", 0, len(topics))]
    for topic, partitions in topics.items():
        parts += [_text(topic), struct.pack(f">i{len(partitions)}i", len(partitions), *partitions)]
    return b"".join([*parts, struct.pack(">i", -1)])


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def assigned(data: bytes) -> list[Place]:
    """Raises :class:`Failed` for what is no assignment: another member made it."""
    if not data:
        return []
    found: list[Place] = []
    try:
        _, count = struct.unpack_from(">hi", data)
        at = 6
        for _ in range(count):
            (size,) = struct.unpack_from(">h", data, at)
            topic, at = data[at + 2 : at + 2 + size].decode(), at + 2 + size
            (several,) = struct.unpack_from(">i", data, at)
            partitions: tuple[int, ...] = struct.unpack_from(f">{several}i", data, at + 4)
            at += 4 + 4 * several
            found += [(topic, partition) for partition in partitions]
    except (struct.error, UnicodeDecodeError) as error:
        raise Failed(f"the group's leader sent what is no assignment: {error}") from error
    return found


def subscribed(metadata: bytes) -> Sequence[str]:
    from pykbroker.groups.subscription import topics

    return sorted(topics(metadata) or ())


_Plan = dict[str, list["Place"]]


def assign_range(subscriptions: Mapping[str, Sequence[str]], counts: Mapping[str, int]) -> _Plan:
    """Of each topic, consecutive partitions for each member."""
    found: _Plan = {member: [] for member in subscriptions}
    for topic, count in counts.items():
        members = sorted(member for member, topics in subscriptions.items() if topic in topics)
        first = 0
        for number, member in enumerate(members):
            several = count // len(members) + (number < count % len(members))
            found[member] += [(topic, partition) for partition in range(first, first + several)]
            first += several
    return found


def assign_in_turn(subscriptions: Mapping[str, Sequence[str]], counts: Mapping[str, int]) -> _Plan:
    """Partition after partition to member after member."""
    found: _Plan = {member: [] for member in subscriptions}
    turns = _endless(sorted(subscriptions))
    for topic, count in sorted(counts.items()):
        for partition in range(count):
            member = next(each for each in turns if topic in subscriptions[each])
            found[member].append((topic, partition))
    return found


def _endless(members: Sequence[str]) -> Iterator[str]:
    while members:
        yield from members


ASSIGNORS: Final = {"range": assign_range, "roundrobin": assign_in_turn}
"""By their names; each Kafka client has one of them."""
