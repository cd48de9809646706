"""The letters of a group in topics that it shares: counted by their headers, where they are not too many."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykbroker.cli import _retries
from pykbroker.cli._dead_letters import EXCHANGE, dead_letters, letters, settings
from pykbroker.cli._exchanges import exchanges, image_of
from pykbroker.cli._progress import CountProgress

if TYPE_CHECKING:
    from pykbroker.cli._letters import Letter
    from pykbroker.client import Client

MOST = 50_000
"""Letters that are read through to count those of one group."""
PATIENCE_S = 10.0
"""How long that may take; with more, or longer, it is said how to count."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Where dead letters of a group go that others may use too: the topic ``target``, or an exchange, from
    which they get to the topics ``leaves``.

    ``own`` are those of the group on one origin, by topic and the partition that they come from; None: they
    were not counted.  ``everybody``: all letters that are there.
    """

    group: str
    target: str
    leaves: Sequence[str]
    own: Mapping[tuple[str, int], int] | None = None
    everybody: int = 0

    def count(self, partition: int | None = None) -> int | None:
        """How many are of the group, or came from one partition of the origin."""
        if self.own is None:
            return None
        return sum(count for (_, number), count in self.own.items() if partition in (None, number))

    def __str__(self) -> str:
        if self.own is None:
            command = f"pykbroker dlq list --group {shlex.quote(self.group)}"
            return f"letters: {self.everybody} of all that share it, not counted by group: {command}"
        if self.leaves == [self.target]:
            return f"letters: {self.count()} of {self.everybody}, it is shared"
        by_topic = Counter[str]()
        for (topic, _), count in self.own.items():
            by_topic[topic] += count
        where = ", ".join(f"{by_topic[topic]} in {topic}" for topic in self.leaves) or "it leads nowhere"
        return f"letters: {where}, by this exchange"


async def shared_letters(client: Client, group: str, origins: Sequence[str]) -> dict[str, Shared]:
    """By origin, those of ``origins`` whose dead letters go to a topic that is not the group's alone."""
    if not origins:
        return {}
    failing = await _retries.failing(client, [(origin, group) for origin in origins])
    targets = {e.topic: e.settings.dead_letter_topic for e in failing if e.settings.shared_dead_letter}
    leaves = await _leaves(client, sorted({*targets.values()}))
    wanted = sorted({topic for each in leaves.values() for topic in each})
    totals = {topic: await _total(client, topic) for topic in wanted}
    counted = await _counted(client, group, wanted, sum(totals.values()))
    return {
        origin: Shared(
            group=group,
            target=target,
            leaves=leaves[target],
            own=None if counted is None else _of(counted.get(origin, {}), leaves[target]),
            everybody=sum(totals[topic] for topic in leaves[target]),
        )
        for origin, target in targets.items()
    }


def _of(own: Mapping[tuple[str, int], int], topics: Sequence[str]) -> dict[tuple[str, int], int]:
    return {(topic, number): count for (topic, number), count in own.items() if topic in topics}


async def _leaves(client: Client, targets: Sequence[str]) -> dict[str, list[str]]:
    """By target, the topics in which letters come to lie: itself, or where it routes them."""
    from pykbroker.catalog.exchanges import reached

    kinds = await settings(client, targets, EXCHANGE)
    found = {target: [target] if target in kinds else [] for target in targets}
    routing = [target for target in targets if kinds.get(target, {}).get(EXCHANGE)]
    if routing:
        image = image_of(await exchanges(client))
        for target in routing:
            found[target] = sorted(reached(image, target) - image.exchanges.keys())
    return found


async def _total(client: Client, topic: str) -> int:
    return sum(each.waiting for each in (await dead_letters(client, topic)).partitions)


async def _counted(
    client: Client, group: str, topics: Sequence[str], total: int
) -> dict[str, Counter[tuple[str, int]]] | None:
    """By origin, how many letters of the group are where; None: that is too much to look at."""
    import trio

    if total > MOST:
        return None
    counted: dict[str, Counter[tuple[str, int]]] = {}
    seen = 0
    with trio.move_on_after(PATIENCE_S) as scope, CountProgress(f"counting letters of {group}", total) as bar:
        for topic in topics:
            async with aclosing(letters(client, await dead_letters(client, topic))) as read:
                async for letter in read:
                    seen += 1
                    bar(seen)
                    if letter.group == group and letter.origin is not None:
                        counted.setdefault(letter.origin, Counter())[topic, _partition(letter)] += 1
    return None if scope.cancelled_caught else counted


def _partition(letter: Letter) -> int:
    """The partition of the origin, as far as the letter says it: without, both have the same number."""
    _, _, rest = (letter.source or "").partition("/")
    number = rest.partition("/")[0]
    return int(number) if number.isascii() and number.isdecimal() else letter.partition
