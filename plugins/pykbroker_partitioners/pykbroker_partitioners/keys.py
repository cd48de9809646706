"""Partitioners that go by the key, or by a header in place of it."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping

from pykbroker import Headers, PartitionContext
from pykbroker_partitioners.murmur2 import partition_of
from pykbroker_partitioners.spreading import RoundRobin, Sticky

OTHERS = "*"
"""In the table of ``map``: what is not in it."""


class Default:
    """As Kafka's clients do it: by murmur2 of the key; without a key ``sticky``.

    What the client chose is not looked at: it cannot be told whether somebody named that partition, or
    the client's own partitioner did.
    """

    key_only = True

    def __init__(self, chance: random.Random | None = None) -> None:
        self._keyless = Sticky(chance=chance)

    def choose(self, ctx: PartitionContext) -> int:
        """The same partition for the same key, as long as there are as many."""
        return self._keyless.choose(ctx) if ctx.key is None else partition_of(ctx.key, ctx.partitions)


class KeyFirst:
    """By murmur2 of the key; without a key where the client said; else one partition after the other."""

    key_only = False

    def __init__(self) -> None:
        self._keyless = RoundRobin()

    def choose(self, ctx: PartitionContext) -> int:
        """The key's partition, or the named one."""
        if ctx.key is not None:
            return partition_of(ctx.key, ctx.partitions)
        if ctx.named_partition is not None and 0 <= ctx.named_partition < ctx.partitions:
            return ctx.named_partition
        return self._keyless.choose(ctx)


class ConsistentHash:
    """By a hash of the key that moves as few keys as possible when partitions are added: from n to n + 1
    only one in n + 1, all to the new one.  Without a key ``sticky``."""

    key_only = True

    def __init__(self, chance: random.Random | None = None) -> None:
        self._keyless = Sticky(chance=chance)

    def choose(self, ctx: PartitionContext) -> int:
        """The same partition for the same key; jump consistent hash (Lamping and Veach, 2014)."""
        if ctx.key is None:
            return self._keyless.choose(ctx)
        state = int.from_bytes(hashlib.blake2b(ctx.key, digest_size=8).digest(), "little")
        chosen, following = 0, 0
        while following < ctx.partitions:
            chosen = following
            state = (state * 2862933555777941757 + 1) & 0xFFFFFFFFFFFFFFFF
            following = int((chosen + 1) * (1 << 31) / ((state >> 33) + 1))
        return chosen


class Header:
    """By murmur2 of the header ``name`` (the last one of that name); without it as ``default``."""

    key_only = False

    def __init__(self, name: str, chance: random.Random | None = None) -> None:
        if not name:
            raise ValueError("pykbroker.plugin.header.name is not set: which header decides?")
        self._name = name
        self._without = Default(chance)

    def choose(self, ctx: PartitionContext) -> int:
        """The same partition for the same value of the header."""
        value = last_header(ctx.headers, self._name)
        return self._without.choose(ctx) if value is None else partition_of(value, ctx.partitions)


class Map:
    """As a table says, by the key, or with ``header`` by the header of that name.

    ``table`` is a JSON object of partition numbers; ``"*"`` is for what is not in it.  What has no
    place in it, or one that the topic does not have, goes as by ``default``.
    """

    def __init__(self, table: str, header: str = "", chance: random.Random | None = None) -> None:
        self.key_only = not header
        self._table = _parsed(table)
        self._others = self._table.pop(OTHERS.encode(), None)
        self._header = header
        self._without = Default(chance)

    def choose(self, ctx: PartitionContext) -> int:
        """The table's number."""
        value = last_header(ctx.headers, self._header) if self._header else ctx.key
        chosen = self._others if value is None else self._table.get(value, self._others)
        if chosen is None or chosen >= ctx.partitions:
            return self._without.choose(ctx)
        return chosen


def last_header(headers: Headers, name: str) -> bytes | None:
    """The value of the last header ``name``; None where there is none, or it is null."""
    for each, value in reversed(headers):
        if each == name:
            return value
    return None


def _parsed(table: str) -> dict[bytes, int]:
    name = "pykbroker.plugin.map.table"
    try:
        value: object = json.loads(table)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{name} must be a JSON object as {{"eu": 0, "us": 1}}: {error}') from None
    if not isinstance(value, Mapping):
        raise ValueError(f'{name} must be a JSON object as {{"eu": 0, "us": 1}}')  # noqa: TRY004
    for key, number in value.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ValueError(f"{name}: {key!r} must have the number of a partition, not {number!r}")
    return {key.encode(): number for key, number in value.items()}
