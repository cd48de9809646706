"""Dead letters as the commands see them: what their headers say, which are meant, which are settled.

Pure: no broker is asked here.  Times are ms since the epoch, ranges of offsets are inclusive pairs.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

Range = tuple[int, int]
"""First and last offset."""

MAX_METADATA = 4096
"""Bytes of commit metadata that a broker takes (``offset.metadata.max.bytes``)."""

SOURCE, GROUP, ATTEMPT = "pykbroker-source", "pykbroker-group", "pykbroker-attempt"
FIRST_FAILURE, LAST_FAILURE = "pykbroker-first-failure-ms", "pykbroker-last-failure-ms"
POLICY, REASON, ROUTED_FROM = "pykbroker-policy", "pykbroker-reason", "pykbroker-routed-from"
KIP_1191 = "__dlq.errors."
"""What begins so is Kafka's own naming: topic, partition, offset, group, delivery.count, message."""

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AGE = re.compile(r"(\d+)(ms|s|m|h|d)")
_PLACE = re.compile(r"(?P<topic>[^/]+)/(?P<partition>\d+)/(?P<first>\d+)(?:-(?P<last>\d+))?")


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One dead letter: a record, and what its headers say about how it failed."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def name(self) -> str:
        """How a command line names it: topic/partition/offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @cached_property
    def _said(self) -> Mapping[str, str]:
        """The headers as text; the last one where a name is repeated."""
        return {name: value.decode("utf-8", "replace") for name, value in self.headers if value is not None}

    def _first(self, *names: str) -> str | None:
        return next((self._said[name] for name in names if name in self._said), None)

    @property
    def source(self) -> str | None:
        """Where the record was at first: topic/partition/offset, less where less is known."""
        said = self._first(SOURCE)
        if said is None and self.origin is not None:
            numbers = [self._first(f"{KIP_1191}{part}") for part in ("partition", "offset")]
            said = "/".join([self.origin, *(number for number in numbers if number is not None)])
        return said or self._first(ROUTED_FROM)

    @property
    def origin(self) -> str | None:
        """The topic that a replay returns it to, if the letter says it."""
        said = self._first(SOURCE)
        return said.split("/", 1)[0] if said else self._first(f"{KIP_1191}topic")

    @property
    def group(self) -> str | None:
        """The group that gave it up."""
        return self._first(GROUP, f"{KIP_1191}group")

    @property
    def attempts(self) -> int | None:
        """How often it failed."""
        return _number(self._first(ATTEMPT, f"{KIP_1191}delivery.count"))

    @property
    def reason(self) -> str | None:
        """Why it failed the last time, in the consumer's words."""
        return self._first(REASON, f"{KIP_1191}message")

    @property
    def policy(self) -> str | None:
        """The retry policy that decided."""
        return self._first(POLICY)

    @property
    def first_failure_ms(self) -> int | None:
        """When it failed first, by the broker's clock."""
        return _number(self._first(FIRST_FAILURE))

    @property
    def last_failure_ms(self) -> int | None:
        """When it failed last, by the broker's clock."""
        return _number(self._first(LAST_FAILURE))

    @property
    def failed_ms(self) -> int:
        """What its age is counted from: the last failure, else the record's own time."""
        last = self.last_failure_ms
        return self.timestamp if last is None else last


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which letters are meant; what is None is not asked."""

    group: str | None = None
    reason: str | None = None
    """A part of the reason, upper or lower case."""
    older_than_ms: int | None = None
    newer_than_ms: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every letter is meant."""
        return self == Filter()

    @property
    def reads_letters(self) -> bool:
        """Whether more is asked than the group, which the topic itself may say."""
        return any(each is not None for each in (self.reason, self.older_than_ms, self.newer_than_ms))

    def matches(self, letter: Letter, now_ms: int) -> bool:
        """Whether ``letter`` is meant."""
        age = now_ms - letter.failed_ms
        return (
            (self.group is None or letter.group == self.group)
            and (self.reason is None or self.reason.casefold() in (letter.reason or "").casefold())
            and (self.older_than_ms is None or age > self.older_than_ms)
            and (self.newer_than_ms is None or age < self.newer_than_ms)
        )


@dataclass(frozen=True)
class Place:
    """What TOPIC/PARTITION/OFFSET or TOPIC/PARTITION/FIRST-LAST names."""

    topic: str
    partition: int
    first: int
    last: int

    @staticmethod
    def parse(text: str) -> Place | None:
        """None: these words name no letter."""
        found = _PLACE.fullmatch(text)
        if found is None:
            return None
        first = int(found["first"])
        last = first if found["last"] is None else int(found["last"])
        return Place(found["topic"], int(found["partition"]), first, last) if first <= last else None


def parse_age(text: str) -> int:
    """Milliseconds from ``90s``, ``5m``, ``1h30m``, ``2d``; raises ValueError."""
    parts = _AGE.findall(text)
    if not parts or "".join(map("".join, parts)) != text:
        raise ValueError(f"{text!r} is no age: write 30s, 5m, 1h30m, 2d")
    return sum(int(number) * _UNITS_MS[unit] for number, unit in parts)


def age_text(ms: int) -> str:
    """An age in its largest unit: ``3h``; what lies ahead counts as 0s."""
    for unit in ("d", "h", "m", "s"):
        if ms >= _UNITS_MS[unit]:
            return f"{ms // _UNITS_MS[unit]}{unit}"
    return "0s"


class Ranges:
    """A set of offsets, kept as ranges that do not touch; :meth:`add` in ascending order."""

    def __init__(self, ranges: Iterable[Sequence[int] | int] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        pairs = [(each, each) if isinstance(each, int) else (each[0], each[1]) for each in ranges]
        for first, last in sorted(pairs):
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Take in ``first`` to ``last``, none of which lies before the last range's beginning."""
        last = first if last is None else last
        if self._lasts and first <= self._lasts[-1] + 1:
            assert first >= self._firsts[-1], "ranges are added in ascending order"
            self._lasts[-1] = max(self._lasts[-1], last)
        else:
            self._firsts.append(first)
            self._lasts.append(last)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._firsts, self._lasts, strict=True)

    def __contains__(self, offset: int) -> bool:
        return self.end_of(offset) is not None

    def end_of(self, offset: int) -> int | None:
        """The last offset of the range that holds ``offset``; None: no range does."""
        index = bisect_right(self._firsts, offset) - 1
        return self._lasts[index] if index >= 0 and offset <= self._lasts[index] else None

    def covers(self, ranges: Iterable[Range]) -> bool:
        """Whether all of ``ranges`` are in it."""
        ends = ((self.end_of(first), last) for first, last in ranges)
        return all(end is not None and end >= last for end, last in ends)

    def count(self, start: int = 0, end: int | None = None) -> int:
        """How many offsets it has from ``start`` to before ``end``."""
        total = 0
        for first, last in self:
            below = last + 1 if end is None else min(last + 1, end)
            total += max(0, below - max(first, start))
        return total


def settled_pages(text: str) -> int:
    """In how many more settings the ranges are, where one is too short; 0: they are in this one."""
    pages = json.loads(text or "{}").get("pages", 0)
    assert isinstance(pages, int)
    return pages


def parse_settled(texts: Iterable[str]) -> dict[int, Ranges]:
    """By partition, from the settings that list what was replayed or purged."""
    ranges: dict[int, list[Sequence[int] | int]] = {}
    for text in texts:
        for partition, some in json.loads(text or "{}").items():
            ranges.setdefault(int(partition), []).extend(some)
    return {partition: Ranges(some) for partition, some in ranges.items()}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Letters of one partition that one commit settles."""

    metadata: str
    ranges: Sequence[Range]
    count: int


def pieces(
    action: str, ranges: Iterable[Range], more: Mapping[str, object] | None = None, *, most: int = 1000
) -> Iterator[Piece]:
    """Cut ``ranges`` so that each commit's metadata fits, and settles at most ``most`` letters.

    ``action`` is ``replay`` or ``purge``, ``more`` what the metadata says beside the ranges.
    """
    room = MAX_METADATA - len(_metadata(action, [], more).encode())
    assert room > 100, "what goes with the ranges leaves no room for them"
    taken: list[Range] = []
    size = count = 0
    for first, last in ranges:
        while first <= last:
            upto = min(last, first + most - count - 1)
            length = len(_range_text((first, upto))) + 1
            if count == most or size + length > room:
                yield Piece(metadata=_metadata(action, taken, more), ranges=taken, count=count)
                taken, size, count = [], 0, 0
                continue
            taken.append((first, upto))
            size += length
            count += upto - first + 1
            first = upto + 1
    if taken:
        yield Piece(metadata=_metadata(action, taken, more), ranges=taken, count=count)


def _metadata(action: str, ranges: Sequence[Range], more: Mapping[str, object] | None) -> str:
    head = {action: "", **(more or {})}
    text = json.dumps(head, separators=(",", ":"))
    return text.replace('""', f"[{','.join(map(_range_text, ranges))}]", 1)


def _range_text(ends: Range) -> str:
    first, last = ends
    return str(first) if first == last else f"[{first},{last}]"
