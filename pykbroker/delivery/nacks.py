"""Commit metadata that asks for something: nacks of ordinary groups, orders of the reserved one.

A commit asks by metadata that is a JSON object with one of three keys::

    {"nack": [5, [7, 9]], "reason": "no such customer"}     these offsets failed
    {"replay": [[0, 99]], "to": "orders", "rate": 50}       dead letters go back, so many per second
    {"purge": [3]}                                          dead letters are settled

Numbers are offsets, pairs are ranges with both ends.  Nacks are those of ordinary groups, the others those
of :data:`~pykbroker.catalog.retrying.DLQ_GROUP`.  Everything else is metadata as Kafka has it, and says
nothing here; the same goes for an object that has a key and a wrong shape, or is no JSON, but the log says
so.  NULs at the end are left out.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

Range = tuple[int, int]
"""The first and the last offset of a run."""
Ranges = tuple[Range, ...]
"""Runs that rise and do not touch."""

MAX_OFFSET: Final = 2**63 - 1

_KEYS: Final = ("nack", "replay", "purge")
_QUOTED: Final = tuple(f"{quote}{key}{quote}" for key in _KEYS for quote in "\"'")
"""In single quotes, as Python writes a dict, it is no JSON; somebody meant it, and is told."""


class Nack(NamedTuple):
    """These offsets failed.  An empty ``reason``: none was given."""

    ranges: Ranges
    reason: str = ""


class Replay(NamedTuple):
    """These dead letters go to the topic ``to``, or back (None), ``rate`` in a second (None: at once)."""

    ranges: Ranges
    to: str | None = None
    rate: float | None = None


class Purge(NamedTuple):
    """These dead letters need nobody's attention any more."""

    ranges: Ranges


Asked = Nack | Replay | Purge


class WrongShape(ValueError):
    """Text that has one of the keys, and does not say what it should."""


def may_ask(metadata: str) -> bool:
    """Whether :func:`parse` has to look closer; nearly all metadata is told apart by its first character."""
    if not metadata or metadata[0] not in "{ \t\r\n":
        return False
    return any(key in metadata for key in _QUOTED)


def parse(metadata: str) -> Asked | None:
    """What ``metadata`` asks for, if anything.  Raises :class:`WrongShape`."""
    if not may_ask(metadata):
        return None
    try:
        # confluent-kafka sends the NUL behind its C string too.
        found = json.loads(metadata.rstrip("\0"))
    except (ValueError, RecursionError) as error:
        raise WrongShape(f"it is no JSON: {error}") from error
    if not isinstance(found, dict):
        return None
    keys = [key for key in _KEYS if key in found]
    if not keys:
        return None
    if len(keys) > 1:
        raise WrongShape(f"only one of {' and '.join(keys)} can be asked for")
    (key,) = keys
    ranges = _ranges(key, found[key])
    if key == "nack":
        return Nack(ranges, _reason(found.get("reason")))
    if key == "purge":
        return Purge(ranges)
    return Replay(ranges, _to(found.get("to")), _rate(found.get("rate")))


def parsed(metadata: str, group: str) -> Asked | None:
    """Like :func:`parse`, but a wrong shape is logged, and asks for nothing."""
    try:
        return parse(metadata)
    except WrongShape as error:
        log.warning("commit metadata is not understood, and ignored: group=%s: %s", group, error)
        return None


def merged(ranges: Iterable[Range]) -> Ranges:
    """The same offsets as runs that rise and do not touch."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            if last > found[-1][1]:
                found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return tuple(found)


def clipped(ranges: Iterable[Range], start: int, end: int) -> Ranges:
    """The part of ``ranges`` from offset ``start`` to below ``end``."""
    if end <= start:
        return ()
    return tuple(
        (max(first, start), min(last, end - 1)) for first, last in ranges if last >= start and first < end
    )


def difference(ranges: Iterable[Range], others: Iterable[Range]) -> Ranges:
    """What lies in ``ranges`` and not in ``others``; both rise."""
    left: list[Range] = []
    away = list(others)
    number = 0
    for first, last in ranges:
        while number < len(away) and away[number][1] < first:
            number += 1
        at, look = first, number
        while look < len(away) and away[look][0] <= last:
            if away[look][0] > at:
                left.append((at, away[look][0] - 1))
            at = max(at, away[look][1] + 1)
            look += 1
        if at <= last:
            left.append((at, last))
    return tuple(left)


def shown(ranges: Iterable[Range], limit: int = 20) -> str:
    """Ranges for a log line: ``5,7-9``; at most ``limit`` of them."""
    every = list(ranges)
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in every[:limit])
    return text if len(every) <= limit else f"{text} and {len(every) - limit} more ranges"


def _ranges(key: str, value: object) -> Ranges:
    if not isinstance(value, list):
        raise WrongShape(f"{key!r} must be a list of offsets and ranges")
    found: list[Range] = []
    for each in value:
        first, last = each if isinstance(each, list) and len(each) == 2 else (each, each)
        if type(first) is not int or type(last) is not int or not 0 <= first <= last <= MAX_OFFSET:
            raise WrongShape(f"{key!r} has something that is neither an offset nor a range: {each!r:.80}")
        found.append((first, last))
    return merged(found)


def _reason(value: object) -> str:
    if value is None:
        return ""
    # A reason that is no text is still one: the failure must not be lost for it.
    return value if isinstance(value, str) else json.dumps(value)


def _to(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise WrongShape(f"'to' must be the name of a topic: {value!r:.80}")
    return value


def _rate(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongShape(f"'rate' must be a number of records per second: {value!r:.80}")
    try:
        rate = float(value)
    except OverflowError:
        rate = math.inf
    if not 0 < rate < math.inf:
        raise WrongShape(f"'rate' must be more than 0: {value!r:.80}")
    return rate
