"""What a lane has decided and is held to, and how that lies in ``__pykbroker_forward``.

The topic is compacted; a key says what its newest value stands for::

    L ingress                     a lane: its producer id and epoch, the offset up to which it has decided,
                                  and the leader epoch of the ingress log then
    P ingress, slot               an open plan; null when it is done, and then another plan takes the slot
    S ingress, target partition   the sequence of the next record that this lane moves there
    X ingress, name               a small value that belongs to whoever decides; the bytes are its own

``ingress`` and ``target partition`` are a topic id (16 bytes) and a partition (4 bytes).  A plan, and the
lane, sequences and small values that follow from it, are one batch: all of it holds, or none.  Values but
those of ``X`` begin with a version byte; numbers in them are zigzag varints.  Offsets of a move are runs,
``(gap, length)``, the first gap counted from the plan's first offset (from 0 where the records lie in
another log), so that a fanout is one run however many records it has.  A gap may be negative: the order of
offsets is that in which records are moved.  Plans of version 0 have no sources, notes and such gaps.

Batches are not in the plan: cut anywhere, the same records have the same sequences.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pykbroker.records.batch import BatchError
from pykbroker.records.varint import append_varint, read_varint

VERSION = 0
"""Of lanes and sequences."""
PLAN_VERSION = 1
MAX_OFFSETS = 1_000_000
"""Records in one move: with more, a plan is taken for damage."""

LANE, PLAN, SEQUENCE, EXTRA = b"L", b"P", b"S", b"X"

_SOURCE, _NOTE = 1, 2
"""Flags of a move: what follows them."""

_PLACE = struct.Struct(">16si")
_SLOT = struct.Struct(">i")


class PlanError(ValueError):
    """Bytes that are no record of this topic, or one of a later version."""


class Place(NamedTuple):
    """One partition: of an ingress log, or of a target."""

    topic_id: bytes
    partition: int


class Route(NamedTuple):
    """A decision: the records at these offsets go to ``target``, in this order.

    ``source`` is the log in which they lie, None for the ingress log itself.  ``note`` is kept with the
    move for whoever writes the copies.  ``since`` is the target's log end when this was decided: none of
    these copies lies before it.  ``last_sequence`` is the last one that the target had of this lane then,
    -1 for none.  A :class:`~pykbroker.forwarding.runner.Runner` fills in both.
    """

    target: Place
    offsets: tuple[int, ...]
    since: int = 0
    last_sequence: int = -1
    source: Place | None = None
    note: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A :class:`Route` that is planned: record ``offsets[i]`` has sequence ``base_sequence + i``."""

    target: Place
    offsets: tuple[int, ...]
    since: int
    base_sequence: int
    source: Place | None = None
    note: bytes = b""

    @property
    def name(self) -> tuple[Place, int]:
        """What tells it from the other moves of its plan."""
        return self.target, self.base_sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was decided when the lane went from ``first_offset`` to ``next_offset``.

    Where every record is decided about in its turn, these are where the records between go, and those in
    no move go nowhere.
    """

    slot: int
    first_offset: int
    next_offset: int
    moves: tuple[Move, ...]


class LaneValue(NamedTuple):
    """The durable part of a lane beside its plans: it has decided about all below ``position``, when
    ``leader_epoch`` was that of the ingress log."""

    producer_id: int
    epoch: int
    position: int
    leader_epoch: int


class Key(NamedTuple):
    """A decoded key.  ``slot`` is that of a plan, ``target`` that of a sequence, ``name`` a small value's."""

    kind: bytes
    ingress: Place
    slot: int = -1
    target: Place | None = None
    name: bytes = b""


def lane_key(ingress: Place) -> bytes:
    """The key of a lane."""
    return LANE + _PLACE.pack(*ingress)


def plan_key(ingress: Place, slot: int) -> bytes:
    """The key of a plan."""
    return PLAN + _PLACE.pack(*ingress) + _SLOT.pack(slot)


def sequence_key(ingress: Place, target: Place) -> bytes:
    """The key of the next sequence of a target."""
    return SEQUENCE + _PLACE.pack(*ingress) + _PLACE.pack(*target)


def extra_key(ingress: Place, name: bytes) -> bytes:
    """The key of a small value."""
    return EXTRA + _PLACE.pack(*ingress) + name


def decode_key(data: bytes) -> Key:
    """Raises :class:`PlanError`."""
    kind, rest = data[:1], data[1 + _PLACE.size :]
    try:
        ingress = Place(*_PLACE.unpack_from(data, 1))
        match kind:
            case b"L" if not rest:
                return Key(kind, ingress)
            case b"P":
                return Key(kind, ingress, slot=_SLOT.unpack(rest)[0])
            case b"S":
                return Key(kind, ingress, target=Place(*_PLACE.unpack(rest)))
            case b"X":
                return Key(kind, ingress, name=rest)
    except struct.error:
        pass
    raise PlanError(f"not a key of forwarding: {data!r:.80}")


def encode_numbers(*numbers: int) -> bytes:
    """The value of a lane (its four numbers) or of a sequence (one)."""
    out = bytearray((VERSION,))
    for number in numbers:
        append_varint(out, number)
    return bytes(out)


def decode_lane(data: bytes) -> LaneValue:
    """Raises :class:`PlanError`."""
    return LaneValue(*_numbers(data, 4))


def decode_sequence(data: bytes) -> int:
    """Raises :class:`PlanError`."""
    return _numbers(data, 1)[0]


def _numbers(data: bytes, count: int) -> list[int]:
    if data[:1] != bytes((VERSION,)):
        raise PlanError(f"version not known: {data[:1]!r}, known: {VERSION}")
    at, found = 1, []
    try:
        for _ in range(count):
            number, at = read_varint(data, at)
            found.append(number)
    except (IndexError, BatchError) as error:
        raise PlanError(f"value cut short: {data!r:.80}") from error
    return found


def encode_plan(plan: Plan) -> bytes:
    """The value of a plan; its slot is in the key."""
    out = bytearray((PLAN_VERSION,))
    put = append_varint
    put(out, plan.first_offset)
    put(out, plan.next_offset - plan.first_offset)
    put(out, len(plan.moves))
    for move in plan.moves:
        source, note = move.source, move.note
        out += _PLACE.pack(*move.target)
        put(out, (_SOURCE if source is not None else 0) | (_NOTE if note else 0))
        if source is not None:
            out += _PLACE.pack(*source)
        if note:
            put(out, len(note))
            out += note
        put(out, move.base_sequence)
        put(out, move.since)
        runs = list(_runs(move.offsets, plan.first_offset if source is None else 0))
        put(out, len(runs))
        for gap, length in runs:
            put(out, gap)
            put(out, length)
    return bytes(out)


def decode_plan(slot: int, data: bytes) -> Plan:
    """Raises :class:`PlanError`."""
    version = data[0] if data else -1
    if not 0 <= version <= PLAN_VERSION:
        raise PlanError(f"version not known: {data[:1]!r}, known: {PLAN_VERSION}")
    try:
        first, at = read_varint(data, 1)
        length, at = read_varint(data, at)
        count, at = read_varint(data, at)
        moves = []
        for _ in range(count):
            move, at = _read_move(data, at, first, version)
            moves.append(move)
    except (IndexError, BatchError, struct.error) as error:
        raise PlanError(f"plan cut short: bytes={len(data)}") from error
    return Plan(slot=slot, first_offset=first, next_offset=first + length, moves=tuple(moves))


def _read_move(data: bytes, at: int, first: int, version: int) -> tuple[Move, int]:
    target = Place(*_PLACE.unpack_from(data, at))
    at += _PLACE.size
    source, note, flags = None, b"", 0
    if version:
        flags, at = read_varint(data, at)
    if flags & _SOURCE:
        source = Place(*_PLACE.unpack_from(data, at))
        at += _PLACE.size
    if flags & _NOTE:
        size, at = read_varint(data, at)
        note = data[at : at + size]
        at += size
        if size < 0 or at > len(data):
            raise PlanError(f"note cut short: bytes={len(data)}")
    base_sequence, at = read_varint(data, at)
    since, at = read_varint(data, at)
    offsets, at = _read_runs(data, at, first if source is None else 0)
    move = Move(
        target=target, offsets=offsets, since=since, base_sequence=base_sequence, source=source, note=note
    )
    return move, at


def _runs(offsets: Sequence[int], behind: int) -> Iterator[tuple[int, int]]:
    """``(gap, length)`` of the runs in ``offsets``, the first gap counted from ``behind``."""
    begin = end = behind
    started = False
    for offset in offsets:
        if started and offset == end:
            end += 1
            continue
        if started:
            yield begin - behind, end - begin
            behind = end
        begin, end, started = offset, offset + 1, True
    if started:
        yield begin - behind, end - begin


def _read_runs(data: bytes, at: int, begin: int) -> tuple[tuple[int, ...], int]:
    count, at = read_varint(data, at)
    offsets: list[int] = []
    for _ in range(count):
        gap, at = read_varint(data, at)
        length, at = read_varint(data, at)
        begin += gap
        if begin < 0 or not 0 < length <= MAX_OFFSETS - len(offsets):
            raise PlanError(f"offsets that no plan has: first={begin} count={length}")
        offsets.extend(range(begin, begin + length))
        begin += length
    return tuple(offsets), at
