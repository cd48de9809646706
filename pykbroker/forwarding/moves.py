"""Moves that follow from decisions: numbered, joined, cut.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pykbroker.forwarding.plan import Move, Place, Plan, Route
from pykbroker.records.batch import MAX_SEQUENCE, add_sequence

HALF = 1 << 30
"""Sequences wrap: one that is less than half the circle ahead of another is ahead of it."""


def planned(
    routes: Iterable[Route], sequences: Mapping[Place, int]
) -> tuple[tuple[Move, ...], dict[Place, int]]:
    """The routes as moves, numbered from ``sequences`` on, and the next sequences of their targets."""
    after: dict[Place, int] = {}
    moves = []
    for route in routes:
        base = after.get(route.target, sequences.get(route.target, 0))
        if route.last_sequence >= 0 and 0 < (route.last_sequence + 1 - base) & MAX_SEQUENCE < HALF:
            base = add_sequence(route.last_sequence, 1)
        after[route.target] = add_sequence(base, len(route.offsets))
        moves.append(
            Move(
                target=route.target,
                offsets=route.offsets,
                since=route.since,
                base_sequence=base,
                source=route.source,
                note=route.note,
            )
        )
    return tuple(moves), after


def merged(moves: Iterable[Move]) -> tuple[Move, ...]:
    """The moves, in the order of sequences, with those joined that follow each other and are of one kind:
    one source, one note, and no record twice."""
    groups: list[tuple[Move, list[int], set[int]]] = []
    last: dict[Place, int] = {}
    for move in moves:
        at = last.get(move.target)
        if at is not None:
            first, offsets, seen = groups[at]
            if (
                add_sequence(first.base_sequence, len(offsets)) == move.base_sequence
                and (first.source, first.note) == (move.source, move.note)
                and seen.isdisjoint(move.offsets)
            ):
                offsets += move.offsets
                seen.update(move.offsets)
                continue
        last[move.target] = len(groups)
        groups.append((move, list(move.offsets), set(move.offsets)))
    return tuple(replace(move, offsets=tuple(offsets)) for move, offsets, _ in groups)


def cut(plan: Plan, end: int) -> Plan:
    """The plan without what lies at or behind the offset ``end`` of the ingress log."""
    moves = []
    for move in plan.moves:
        if move.source is not None:
            moves.append(move)
        elif offsets := tuple(offset for offset in move.offsets if offset < end):
            moves.append(replace(move, offsets=offsets))
    first, behind = min(plan.first_offset, end), min(plan.next_offset, end)
    return replace(plan, first_offset=first, next_offset=behind, moves=tuple(moves))
