"""Letters on their way back: planned, and not to be read again before their time.

What is replayed at a rate lies in ``__pykbroker_replay`` until it is due, and nobody reads that through to
say how much of it is whose.  So the plan that sends letters back takes a note, a small value of the lane for
each partition of a dead-letter topic and each destination: runs of letters that are due one after the other.
How many are left is reckoned from that, and the clock.

It is asked for by name in DescribeConfigs of the dead-letter topic (:data:`RETURNING`).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from pykbroker.delivery.counted import Changes

if TYPE_CHECKING:
    from pykbroker.delivery.reports import Aside
    from pykbroker.delivery.waiting import Stuck

RETURNING: Final = "pykbroker.dead.letter.returning"
"""The read-only setting of a topic, described only to those who name it."""

PREFIX: Final = b"B"
"""The first byte of the names of these small values."""
MAX_RUNS: Final = 32
"""Runs in one small value; with more, the oldest are taken together."""
SLACK_MS: Final = 1.0
"""Two runs are one where the second begins this close to when the first would go on."""
MAX_BYTES: Final = 32_767
"""The longest text that all clients can read in an answer."""

_NAME = struct.Struct(">c16si8s")


class Run(NamedTuple):
    """``letters``: the first is due at ``due_ms``, each next one ``step_ms`` later."""

    due_ms: float
    step_ms: float
    letters: int

    @property
    def last_ms(self) -> float:
        """When the last is due."""
        return self.due_ms + (self.letters - 1) * self.step_ms

    def left(self, now_ms: int) -> int:
        """How many are not due yet."""
        if now_ms < self.due_ms:
            return self.letters
        if now_ms >= self.last_ms or not self.step_ms:
            return 0
        return self.letters - 1 - int((now_ms - self.due_ms) / self.step_ms)

    def then(self, other: Run) -> Run | None:
        """Both as one, where ``other`` goes on as this one ends."""
        gap = other.due_ms - self.last_ms
        if gap < -SLACK_MS:
            return None  # due before those that are there: at once, while they go slowly
        gap = max(gap, 0.0)
        steps = {each.step_ms for each in (self, other) if each.letters > 1} or {gap}
        (step, *more) = steps
        if more or abs(gap - step) > SLACK_MS:
            return None
        return Run(self.due_ms, step, self.letters + other.letters)

    def with_(self, other: Run) -> Run:
        """Both as one, about."""
        first, last = min(self.due_ms, other.due_ms), max(self.last_ms, other.last_ms)
        count = self.letters + other.letters
        return Run(first, (last - first) / max(1, count - 1), count)


class Back(NamedTuple):
    """The letters of one partition that go to the topic ``to``."""

    topic_id: bytes
    partition: int
    to: str
    runs: tuple[Run, ...] = ()

    @property
    def name(self) -> bytes:
        """That of the small value."""
        to = hashlib.blake2b(self.to.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return _NAME.pack(PREFIX, self.topic_id, self.partition, to)

    def encode(self) -> bytes:
        """The small value."""
        return json.dumps([self.to, self.runs], separators=(",", ":")).encode()

    def left(self, now_ms: int) -> int:
        """How many are not due yet."""
        return sum(run.left(now_ms) for run in self.runs)

    @property
    def until_ms(self) -> int:
        """When the last is due."""
        return int(max((run.last_ms for run in self.runs), default=0))

    def add(self, new: Run, now_ms: int) -> Back:
        """The same with more letters, without those that have gone."""
        runs = [run for run in self.runs if run.last_ms > now_ms]
        whole = runs[-1].then(new) if runs else None
        runs = [*runs, new] if whole is None else [*runs[:-1], whole]
        while len(runs) > MAX_RUNS:
            runs[:2] = [runs[0].with_(runs[1])]
        return self._replace(runs=tuple(runs))


def decode(name: bytes, value: bytes) -> Back:
    """What :meth:`Back.encode` wrote."""
    _, topic_id, partition, _ = _NAME.unpack(name)
    to, runs = json.loads(value)
    return Back(topic_id, partition, to, tuple(Run(*each) for each in runs))


def read(extras: Mapping[bytes, bytes], topic_id: bytes | None = None) -> list[Back]:
    """All that a lane's small values say, or what they say of one topic."""
    begin = PREFIX + (topic_id or b"")
    return [decode(name, value) for name, value in extras.items() if name.startswith(begin)]


class Returning:
    """The notes of one lane.  Changes are made at once, and go into a dict of small values."""

    def __init__(self, extras: Mapping[bytes, bytes]) -> None:
        self._known = {back.name: back for back in read(extras)}

    def note(
        self,
        topic_id: bytes,
        partition: int,
        letters: Iterable[tuple[str, int]],
        now_ms: int,
        changes: Changes,
    ) -> None:
        """These letters go back: where to, and when (ms), in the order of times."""
        runs: dict[str, Run] = {}
        for to, due_ms in letters:
            known = runs.get(to)
            new = Run(due_ms, 0.0, 1)
            runs[to] = new if known is None else known.with_(new)
        for to, run in runs.items():
            back = Back(topic_id, partition, to)
            back = self._known.get(back.name, back).add(run, now_ms)
            self._known[back.name] = back
            changes[back.name] = back.encode()

    def sweep(
        self,
        is_gone: Callable[[bytes], bool],
        is_there: Callable[[str], bool],
        now_ms: int,
        changes: Changes,
    ) -> None:
        """Forget what has arrived, that is, what has come to its time and goes to a topic that ``is_there``;
        and what nobody can ask for, because the dead-letter topic ``is_gone``."""
        for name, back in tuple(self._known.items()):
            if is_gone(back.topic_id) or (back.until_ms < now_ms and is_there(back.to)):
                del self._known[name]
                changes[name] = None


# The setting


class _Row(NamedTuple):
    """``letters`` of a partition (None: of all) that go to the topic ``to``, the last at ``until_ms``."""

    partition: int | None
    to: str
    letters: int
    until_ms: int


def described(
    now_ms: int,
    backs: Iterable[Back],
    asides: Iterable[Aside],
    stuck: Iterable[Stuck],
    limit: int = MAX_BYTES,
) -> str:
    """The setting: what is on its way, what was ordered and is not begun, what has come to its time and
    cannot go where it should.  Without numbers of partitions where that were too long."""
    backs = tuple(backs)
    rows = [_Row(back.partition, back.to, back.left(now_ms), back.until_ms) for back in backs]
    names = {back.to for back in backs}
    waits = [each.fields() for each in stuck if each.to in names]
    ordered = [{"partition": each.holder.partition, **each.fields()} for each in asides]
    for found, orders in ((_sorted(rows), ordered), (_together(rows), []), ([], [])):
        text = json.dumps(
            {"now_ms": now_ms, "returning": [row._asdict() for row in found], "ordered": orders}
            | {"stuck": waits},
            separators=(",", ":"),
        )
        if len(text) <= limit:
            return text
    return json.dumps({"now_ms": now_ms})


def _sorted(rows: Iterable[_Row]) -> list[_Row]:
    return sorted(row for row in rows if row.letters)


def _together(rows: Iterable[_Row]) -> list[_Row]:
    found: dict[str, _Row] = {}
    for row in rows:
        known = found.get(row.to, _Row(None, row.to, 0, 0))
        until_ms = max(known.until_ms, row.until_ms)
        found[row.to] = _Row(None, row.to, known.letters + row.letters, until_ms)
    return _sorted(found.values())
