"""``consistent-hash``: each routing key goes to one of the targets, always the same.

A target's share is its weight: the binding's key as a number, or its argument ``weight``; 1 where there
is neither.  When a target comes or goes, or a weight changes, only the keys that this target gains or
loses move (rendezvous hashing: each target draws a number from the key, weighted, and the smallest
wins).  The same bindings give the same answer in every process and on every machine.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from pykbroker import Binding, RoutingContext

WEIGHT = "weight"
MAX_WEIGHT = 1_000_000

_MASK = 2**64 - 1


class _Rendezvous:
    key_only = True

    def __init__(self, bindings: Sequence[Binding]) -> None:
        # One target is one lot, however many bindings give it weight; the heaviest stands for it.
        lots: dict[str, list[tuple[int, str, Binding]]] = {}
        for binding in dict.fromkeys(bindings):
            lots.setdefault(binding.to, []).append((weight_of(binding), binding.key, binding))
        self._targets = [
            (_hash(to.encode()), -1.0 / sum(weight for weight, _, _ in lot), max(lot, key=_order)[2])
            for to, lot in lots.items()
        ]

    def match(self, ctx: RoutingContext) -> Sequence[Binding]:
        drawn = _hash(ctx.routing_key.encode("utf-8", "surrogateescape"))
        best, winner = math.inf, None
        for seed, scale, binding in self._targets:
            # splitmix64's finalizer makes an independent number of each pair
            x = drawn ^ seed
            x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
            x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
            score = math.log(((x ^ (x >> 31)) + 1) / 2**64) * scale
            if score < best:
                best, winner = score, binding
        return () if winner is None else (winner,)


def _order(lot: tuple[int, str, Binding]) -> tuple[int, str]:
    return lot[:2]


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def weight_of(binding: Binding) -> int:
    """The weight that a binding gives its target; ValueError if it is none."""
    given = binding.arguments.get(WEIGHT, binding.key or "1")
    if given is None or not given.isascii() or not given.isdigit() or not 1 <= int(given) <= MAX_WEIGHT:
        raise ValueError(f"a weight must be an integer from 1 to {MAX_WEIGHT}, not {given!r}")
    return int(given)


class ConsistentHash:
    """The exchange type ``consistent-hash``."""

    def validate(self, binding: Binding) -> None:
        """The key or the argument ``weight`` is a weight; there are no other arguments."""
        for name in binding.arguments:
            if name != WEIGHT:
                raise ValueError(f"a consistent-hash exchange takes only the argument {WEIGHT!r}: {name!r}")
        if binding.key and WEIGHT in binding.arguments:
            raise ValueError(f"the weight is given twice: as key {binding.key!r} and as argument")
        weight_of(binding)

    def compile(self, bindings: Sequence[Binding]) -> _Rendezvous:
        """What draws the lots."""
        return _Rendezvous(bindings)
