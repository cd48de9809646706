"""The kit for partitioners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from pykbroker.components import PARTITIONER, PartitionContext, Partitioner
from pykbroker.testing.kits._making import NOW_MS, TOPIC, KitFailure, Make, Values, call, make

KEYS = (None, b"", b"k", b"another key", b"\xff\xfe\x00", b"k" * 10_000)
COUNTS = (1, 2, 3, 7, 100)


def check_partitioner(
    component: Make[Partitioner],
    *,
    settings: Values | None = None,
    chooses: Mapping[bytes | None, int] | None = None,
) -> None:
    """Whatever the record, ``choose`` names one of the partitions, at once; and where ``key_only`` is
    claimed, nothing but key and number of partitions matters (a record without key may go anywhere).

    ``chooses``: for these keys, of ten partitions, it must choose those.
    """
    partitioner = make(PARTITIONER, component, settings)
    for ctx in _contexts():
        _chosen(partitioner, ctx)
    if getattr(partitioner, "key_only", False):
        _check_key_only(partitioner, make(PARTITIONER, component, settings))
    for key, expected in (chooses or {}).items():
        chosen = _chosen(partitioner, _context(key, 10))
        if chosen != expected:
            raise KitFailure(f"choose() put key {key!r} into partition {chosen} of 10, not into {expected}")


def _contexts() -> Iterator[PartitionContext]:
    for partitions in COUNTS:
        for key in KEYS:
            plain = _context(key, partitions)
            yield plain
            yield replace(plain, value_size=None)
            yield replace(plain, headers=(("partition", b"1"), ("partition", None), ("é", b"\xff")))
            yield replace(plain, available=(partitions - 1,))
            yield replace(plain, named_partition=partitions - 1, timestamp_ms=-1)


def _context(key: bytes | None, partitions: int) -> PartitionContext:
    return PartitionContext(
        topic=TOPIC,
        partitions=partitions,
        available=tuple(range(partitions)),
        key=key,
        value_size=100,
        timestamp_ms=NOW_MS,
        now_ms=NOW_MS,
    )


def _chosen(partitioner: Partitioner, ctx: PartitionContext) -> int:
    answer: object = call("choose()", partitioner.choose, ctx)
    if type(answer) is not int:
        raise KitFailure(f"choose() gave {answer!r}, which is no int")
    if not 0 <= answer < ctx.partitions:
        raise KitFailure(f"choose() gave {answer} of {ctx.partitions} partitions, for {ctx!r:.300}")
    return answer


def _check_key_only(partitioner: Partitioner, another: Partitioner) -> None:
    seen: dict[tuple[bytes | None, int], int] = {}
    for ctx in (ctx for ctx in _contexts() if ctx.key is not None):
        for each in (partitioner, another):
            chosen = _chosen(each, ctx)
            before = seen.setdefault((ctx.key, ctx.partitions), chosen)
            if chosen != before:
                raise KitFailure(
                    f"key_only is claimed, and key {ctx.key!r:.60} went to {before} and to {chosen} "
                    f"of {ctx.partitions} partitions"
                )
