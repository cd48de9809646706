"""Dead letters as their readers see them: which are settled, what may be ordered, where they go back to.

Which letters are settled is asked for by name in DescribeConfigs of the dead-letter topic
(:data:`SETTLED`): a JSON object, partition (text) to a list of offsets and ranges as in a nack, such as
``{"0": [5, [7, 9]]}``.  Where that is longer than a setting may be (:data:`MAX_BYTES`), it is an object
``{"pages": 3}``, and ``pykbroker.dead.letter.settled.0`` to ``.2`` are objects of the first kind, each
with a part of the ranges.

A letter that goes back is held first, like a record that is delayed: that is how there is a rate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from pykbroker.catalog.exchanges import reached
from pykbroker.catalog.retrying import RoleKind, role_of
from pykbroker.delivery import headers, held
from pykbroker.delivery.nacks import Purge, Ranges, Replay
from pykbroker.forwarding.copying import Source

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.image import Topic

SETTLED: Final = "pykbroker.dead.letter.settled"
"""The read-only setting of a topic, described only to those who name it."""

MAX_BYTES: Final = 32_767
"""The longest text that all clients can read in an answer."""


# What is settled


def described(settled: Mapping[int, Ranges], limit: int = MAX_BYTES) -> Mapping[str, str]:
    """The settings, by name, that say which letters are settled."""
    whole = _text({partition: list(ranges) for partition, ranges in settled.items()})
    if len(whole) <= limit:
        return {SETTLED: whole}
    pages: list[str] = []
    page: dict[int, list[tuple[int, int]]] = {}
    size = 2
    for partition, ranges in settled.items():
        for each in ranges:
            length = len(_range(each)) + 1 + (0 if partition in page else len(f'"{partition}":[],'))
            if page and size + length > limit:
                pages.append(_text(page))
                page, size = {}, 2
                length = len(_range(each)) + 1 + len(f'"{partition}":[],')
            page.setdefault(partition, []).append(each)
            size += length
    pages.append(_text(page))
    return {SETTLED: f'{{"pages":{len(pages)}}}'} | {
        f"{SETTLED}.{number}": text for number, text in enumerate(pages)
    }


def _text(settled: Mapping[int, list[tuple[int, int]]]) -> str:
    parts = (f'"{partition}":[{",".join(map(_range, ranges))}]' for partition, ranges in settled.items())
    return "{" + ",".join(parts) + "}"


def _range(each: tuple[int, int]) -> str:
    first, last = each
    return str(first) if first == last else f"[{first},{last}]"


# What may be ordered


def why_not(catalog: Catalog, topic: Topic, asked: Replay | Purge) -> str | None:
    """Why an order of the reserved group on a partition of ``topic`` is refused; None: it is not.

    A replay is refused where there is nothing to replay to, and where it would loop: to the topic itself,
    to one with a role, to an exchange that routes into this topic or a retry topic.
    """
    role = role_of(topic)
    if topic.internal or (role is not None and role.kind is RoleKind.RETRY) or is_exchange(catalog, topic):
        return f"{topic.name} is not a topic of dead letters"
    if isinstance(asked, Purge):
        return None
    if asked.to is not None:
        return why_not_to(catalog, topic, asked.to)
    return None if role is None else why_not_to(catalog, topic, role.origin)


def why_not_to(catalog: Catalog, topic: Topic, to: str) -> str | None:
    """Why a letter of ``topic`` cannot go to the topic ``to``; None: it can."""
    if to == topic.name:
        return f"{to} is where the letters are"
    target = catalog.image.topics.get(to)
    if target is None:
        return f"there is no topic {to}"
    if target.internal:
        return f"{to} belongs to the broker"
    if (role := role_of(target)) is not None:
        return f"{to} is the {role.kind} topic of a group"
    for name in sorted(reached(catalog.image, to)):
        if name == topic.name:
            return f"the exchange {to} routes into {name}"
        there = catalog.image.topics.get(name)
        if there is not None and (role := role_of(there)) is not None and role.kind is RoleKind.RETRY:
            return f"the exchange {to} routes into {name}, the {role.kind} topic of a group"
    return None


def is_exchange(catalog: Catalog, topic: Topic) -> bool:
    """Whether the topic routes what is produced to it."""
    exchange = catalog.image.exchange(topic.name)
    return exchange is not None and exchange.kind is not None


# Going back


class Return(NamedTuple):
    """What the letters of one move have in common, as its note.

    They lie in ``partition``, and go to ``to``, or (None) where their headers say.  Number ``n`` of the
    move is due at ``due_ms`` plus ``n`` times ``step_ms``.
    """

    to: str | None
    partition: int
    due_ms: int
    step_ms: float

    def encode(self) -> bytes:
        """As the note of a move."""
        return json.dumps(["replay", *self], separators=(",", ":")).encode()


@lru_cache(maxsize=64)
def decode_return(note: bytes) -> Return | None:
    """The note that :meth:`Return.encode` wrote; None for another one."""
    match json.loads(note):
        case ["replay", (str() | None) as to, int(partition), int(due_ms), (int() | float()) as step_ms]:
            return Return(to, partition, due_ms, step_ms)
    return None


def origin_of(letter: Source) -> headers.Origin | None:
    """Where a dead letter says that it came from."""
    return headers.Origin.parse(
        next((value for name, value in letter.headers if name == headers.SOURCE), None)
    )


def destination(back: Return, letter: Source) -> tuple[str, int]:
    """The topic and partition that a letter goes to; the number is taken modulo the count there.

    An empty name: it says nothing of where it came from, and nobody else does.
    """
    origin = origin_of(letter)
    number = back.partition if origin is None or origin.partition is None else origin.partition
    if back.to is not None:
        return back.to, number
    return ("" if origin is None else origin.topic), number


def replayed_suffix(back: Return, index: int, letter: Source) -> bytes:
    """Number ``index`` of a move: the letter as it was produced, held until it is due."""
    name, partition = destination(back, letter)
    due_ms = back.due_ms + int(index * back.step_ms)
    decided = held.Held(due_ms=due_ms, kind=held.Kind.REPLAY, partition=partition, name=name)
    return held.suffix(headers.rewritten(letter, headers.is_ours, ()), decided)
