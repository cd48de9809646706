"""Random exchanges, bindings and messages; each case is made from its number, the same every time.

Small alphabets, so that keys match often, that several bindings match one message, and that loops come
up.  Nothing in a case is outside what RabbitMQ, pykbroker and kafka-python all have: text as header
values, no header twice in one message, none that is null.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from pykbroker.components import Binding

KINDS = ("fanout", "direct", "topic", "headers")
WORDS = ("a", "b", "c", "")
PATTERNS = ("a", "b", "*", "#", "*", "#", "")
NAMES = ("h", "i", "x-j")
VALUES = ("1", "2", "ü", "")
MODES = (None, "all", "any", "all-with-x", "any-with-x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """``kind`` is its type; ``bindings`` name queues and exchanges."""

    kind: str
    bindings: tuple[Binding, ...]
    alternate: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """``body`` is unique in its case."""

    exchange: str
    routing_key: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test: what there is, and what is sent."""

    number: int
    queues: tuple[str, ...]
    exchanges: Mapping[str, Exchange] = field(repr=False)
    messages: tuple[Message, ...] = field(repr=False)

    def named(self, name: str) -> str:
        """A name of this case that is unique among cases."""
        return f"case{self.number}.{name}"


def case(number: int) -> Case:
    """Case ``number``."""
    chance = random.Random(number)
    queues = tuple(f"q{index}" for index in range(chance.randrange(1, 6)))
    names = tuple(f"e{index}" for index in range(chance.randrange(1, 5)))
    kinds = {name: chance.choice(KINDS) for name in names}
    exchanges = {
        name: Exchange(
            kind=kinds[name],
            bindings=tuple(_binding(chance, kinds[name], queues, names) for _ in range(chance.randrange(7))),
            alternate=chance.choice(names) if chance.random() < 0.4 else None,
        )
        for name in names
    }
    messages = tuple(
        _message(chance, chance.choice(names), b"%d" % index) for index in range(chance.randrange(5, 16))
    )
    return Case(number=number, queues=queues, exchanges=exchanges, messages=messages)


def _binding(chance: random.Random, kind: str, queues: tuple[str, ...], names: tuple[str, ...]) -> Binding:
    to = chance.choice(names if chance.random() < 0.35 else queues)
    arguments: dict[str, str | None] = {}
    if kind == "headers":
        count = chance.randrange(3)
        arguments = {name: chance.choice((None, *VALUES)) for name in chance.sample(NAMES, count)}
        mode = chance.choice(MODES)
        if mode is not None:
            arguments["x-match"] = mode
    words = PATTERNS if kind == "topic" else WORDS
    return Binding(to, _key(chance, words), arguments)


def _key(chance: random.Random, words: tuple[str, ...]) -> str:
    return ".".join(chance.choices(words, k=chance.randrange(4)))


def _message(chance: random.Random, exchange: str, body: bytes) -> Message:
    names = chance.sample(NAMES, chance.randrange(len(NAMES) + 1))
    headers = {name: chance.choice(VALUES) for name in names}
    return Message(exchange=exchange, routing_key=_key(chance, WORDS), headers=headers, body=body)
