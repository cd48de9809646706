"""Partitioners that do not look at the record: ``round-robin``, ``random``, ``sticky``."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pykbroker import PartitionContext

BATCH_BYTES = 16384
"""Kafka's ``batch.size``: how much its sticky partitioner puts in one place before it goes on."""


def candidates(ctx: PartitionContext) -> Sequence[int]:
    """The partitions worth choosing among: those with a leader, or all where none has one."""
    return ctx.available or range(ctx.partitions)


class RoundRobin:
    """One partition after the other."""

    def __init__(self, first: int = 0) -> None:
        self._next = first

    def choose(self, ctx: PartitionContext) -> int:
        """The next partition that has a leader."""
        among = candidates(ctx)
        chosen = among[self._next % len(among)]
        self._next += 1
        return chosen


class Random:
    """Any partition, each as likely as the others."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()

    def choose(self, ctx: PartitionContext) -> int:
        """One of the partitions that have a leader."""
        return self._chance.choice(candidates(ctx))


class Sticky:
    """The same partition until ``batch_bytes`` are there, then another one by chance: few large batches
    in place of many small ones, and in the long run as much for each."""

    def __init__(self, batch_bytes: int = BATCH_BYTES, chance: random.Random | None = None) -> None:
        self._batch_bytes = batch_bytes
        self._chance = chance or random.Random()
        self._chosen = -1
        self._filled = 0

    def choose(self, ctx: PartitionContext) -> int:
        """The partition of the last record, or another one when it has had enough, or has no leader."""
        among = candidates(ctx)
        if self._filled >= self._batch_bytes or self._chosen not in among:
            others = [number for number in among if number != self._chosen]
            self._chosen = self._chance.choice(others or among)
            self._filled = 0
        # A record takes some bytes however empty it is.
        self._filled += 8 + len(ctx.key or b"") + (ctx.value_size or 0)
        return self._chosen
