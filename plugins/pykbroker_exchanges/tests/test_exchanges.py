"""The exchange types: what matches, and which bindings are refused.

That the first four do what RabbitMQ does is shown by comparison with one, in pykbroker's interop tests;
here are the rules one by one.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable

import pykbroker_exchanges
import pytest
from pykbroker_exchanges import ConsistentHash, Direct, Fanout, HeadersExchange, Topic, Wildcard
from pykbroker_exchanges.topic import _Automaton

from pykbroker import Binding, ExchangeType, RoutingContext
from pykbroker.testing import check_plugin

Arguments = dict[str, str | None]


def match(
    kind: ExchangeType,
    bindings: Iterable[Binding],
    key: str = "",
    headers: Iterable[tuple[str, bytes | None]] = (),
) -> set[Binding]:
    bindings = list(bindings)
    for binding in bindings:
        kind.validate(binding)
    ctx = RoutingContext(exchange="exchange", routing_key=key, headers=tuple(headers))
    return set(kind.compile(bindings).match(ctx))


def fits(pattern: str, key: str) -> bool:
    return bool(match(Topic(), [Binding("q", pattern)], key))


def test_fanout_matches_whatever_the_keys_say() -> None:
    bindings = {Binding("a"), Binding("b", "x"), Binding("b", "y")}
    assert match(Fanout(), bindings, "z") == bindings
    assert match(Fanout(), [], "z") == set()


def test_direct_matches_the_key_itself() -> None:
    bindings = [Binding("a", "x"), Binding("b", "x"), Binding("c", "X"), Binding("d")]
    assert match(Direct(), bindings, "x") == {Binding("a", "x"), Binding("b", "x")}
    assert match(Direct(), bindings, "") == {Binding("d")}
    assert match(Direct(), bindings, "*") == set()


@pytest.mark.parametrize(
    ("pattern", "keys", "others"),
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "a.B", "ab", "a..b"]),
        ("*", ["a", "a-b"], ["", "a.b", "."]),
        ("a.*", ["a.b", "a."], ["a", "a.b.c"]),
        ("#", ["", "a", "a.b.c", "."], []),
        ("a.#", ["a", "a.b", "a.b.c", "a."], ["", "b.a"]),
        ("#.a", ["a", "b.a", "b.c.a"], ["a.b", ""]),
        ("a.#.b", ["a.b", "a.x.b", "a.x.y.b", "a.b.b"], ["a", "b", "a.b.c"]),
        ("#.#", ["", "a", "a.b"], []),
        ("#.*.#", ["a", "a.b"], [""]),
        ("*.#.*", ["a.b", "a.b.c"], ["a", ""]),
        ("#.a.#.b.#", ["a.b", "x.a.y.b.z", "a.a.b"], ["b.a", "a", "a.x"]),
        ("a..b", ["a..b"], ["a.b", "a.x.b"]),
        ("a.*.b", ["a..b", "a.x.b"], ["a.b"]),
        ("", [""], ["a", "."]),
        (".", ["."], ["", "a", "a."]),
        ("a*", ["a*"], ["ab", "a"]),
        ("a.b#", ["a.b#"], ["a.b", "a.bc"]),
    ],
)
def test_topic_patterns(pattern: str, keys: list[str], others: list[str]) -> None:
    assert [key for key in keys if not fits(pattern, key)] == []
    assert [key for key in others if fits(pattern, key)] == []


def expression(pattern: str) -> re.Pattern[str]:
    """The same pattern for keys in which every word ends with a dot: another way to say what it means."""
    parts = {"*": r"[^.]*\.", "#": r"(?:[^.]*\.)*"}
    words = pattern.split(".") if pattern else []
    return re.compile("".join(parts.get(word, re.escape(word) + r"\.") for word in words))


@pytest.mark.parametrize("remembered", [1_000_000, 12])
def test_topic_patterns_together_match_as_each_alone(remembered: int) -> None:
    """With many states, and with so few that they are forgotten all the time."""
    chance = random.Random(5)
    for _ in range(40):
        patterns = [
            ".".join(chance.choices(["a", "b", "*", "#", ""], k=chance.randrange(5)))
            for _ in range(chance.randrange(1, 9))
        ]
        bindings = [Binding(f"q{index}", pattern) for index, pattern in enumerate(patterns)]
        automaton = _Automaton(bindings, remembered=remembered)
        for _ in range(40):
            key = ".".join(chance.choices(["a", "b", "c", ""], k=chance.randrange(5)))
            ended = key + "." if key else ""
            found = set(automaton.match(RoutingContext(exchange="e", routing_key=key)))
            wanted = {each for each in bindings if expression(each.key).fullmatch(ended)}
            assert found == wanted, (patterns, key)


def test_a_topic_exchange_does_not_grow_with_the_words_it_meets() -> None:
    automaton = _Automaton([Binding("q", "a.*.b"), Binding("r", "a.#")])
    for number in range(1000):
        automaton.match(RoutingContext(exchange="e", routing_key=f"a.{number}.b"))
    assert len(automaton._states) < 10


def test_hundreds_of_hashes_take_no_time() -> None:
    patterns = [Binding("q", ".".join(["#", "a"] * 50)), Binding("r", ".".join(["#"] * 200))]
    ctx = RoutingContext(exchange="e", routing_key=".".join(["a"] * 49))
    assert {each.to for each in Topic().compile(patterns).match(ctx)} == {"r"}


@pytest.mark.parametrize(
    ("arguments", "headers", "matches"),
    [
        ({}, {}, True),
        ({}, {"a": b"1"}, True),
        ({"x-match": "any"}, {"a": b"1"}, False),
        ({"a": "1"}, {"a": b"1", "b": b"2"}, True),
        ({"a": "1", "b": "2"}, {"a": b"1"}, False),
        ({"a": "1", "b": "2"}, {"a": b"1", "b": b"3"}, False),
        ({"x-match": "any", "a": "1", "b": "2"}, {"b": b"2"}, True),
        ({"x-match": "any", "a": "1", "b": "2"}, {"a": b"2", "b": b"1"}, False),
        ({"a": None}, {"a": b"whatever"}, True),
        ({"a": None}, {"a": None}, True),
        ({"a": None, "b": "1"}, {"b": b"1"}, False),
        ({"a": None, "b": None}, {"a": b"", "b": b""}, True),
        ({"a": ""}, {"a": b""}, True),
        ({"a": ""}, {"a": None}, False),
        ({"a": "ü"}, {"a": "ü".encode()}, True),
        ({"a": "1", "A": "2"}, {"a": b"1"}, False),
        ({"x-a": "1"}, {}, True),  # does not count
        ({"x-match": "any", "x-a": "1"}, {"x-a": b"1"}, False),
        ({"x-match": "all-with-x", "x-a": "1"}, {}, False),
        ({"x-match": "all-with-x", "x-a": "1"}, {"x-a": b"1"}, True),
        ({"x-match": "any-with-x", "x-a": "1", "b": "2"}, {"x-a": b"1"}, True),
    ],
)
def test_headers(arguments: Arguments, headers: dict[str, bytes | None], matches: bool) -> None:
    binding = Binding("q", "a key is not looked at", arguments)
    assert match(HeadersExchange(), [binding], "key", headers.items()) == ({binding} if matches else set())


def test_any_occurrence_of_a_repeated_header_matches() -> None:
    both = Binding("q", "", {"a": "1", "b": None})
    headers = [("a", b"0"), ("a", b"1"), ("b", None), ("a", b"2")]
    assert match(HeadersExchange(), [both], "", headers) == {both}


@pytest.mark.parametrize(
    ("pattern", "keys", "others"),
    [
        ("*213*", ["213", "India_213_x", "a.213.b", "1213"], ["21", "2 13"]),
        ("order-?", ["order-1"], ["order-", "order-10"]),
        ("[ab]*", ["a", "bc"], ["c", ""]),
        ("[!a]", ["b"], ["a", ""]),
        ("[*]", ["*"], ["x"]),
        ("plain.key", ["plain.key"], ["plainxkey", "Plain.key"]),
        ("*", ["", "any\nthing"], []),
    ],
)
def test_wildcard(pattern: str, keys: list[str], others: list[str]) -> None:
    assert [key for key in keys if not match(Wildcard(), [Binding("q", pattern)], key)] == []
    assert [key for key in others if match(Wildcard(), [Binding("q", pattern)], key)] == []


def placed(bindings: list[Binding], count: int = 4000) -> list[str]:
    matcher = ConsistentHash().compile(bindings)
    found = []
    for number in range(count):
        (binding,) = matcher.match(RoutingContext(exchange="e", routing_key=f"key-{number}"))
        found.append(binding.to)
    return found


def test_consistent_hash_shares_by_weight() -> None:
    counts = Counter(placed([Binding("a"), Binding("b", "2"), Binding("c", "", {"weight": "5"})]))
    assert [round(counts[name] / 500) for name in "abc"] == [1, 2, 5]


def test_consistent_hash_moves_only_what_the_new_target_gets() -> None:
    before = placed([Binding("a"), Binding("b"), Binding("c")])
    after = placed([Binding("c"), Binding("d"), Binding("a"), Binding("b")])
    moved = [new for old, new in zip(before, after, strict=True) if new != old]
    assert set(moved) == {"d"}
    assert len(moved) == after.count("d")


def test_consistent_hash_is_the_same_everywhere() -> None:
    found = placed([Binding("a"), Binding("b"), Binding("c", "3")], 12)
    assert "".join(found) == "cbbcabcbccca"


def test_nothing_bound_is_nothing_matched() -> None:
    for kind in (Fanout(), Direct(), Topic(), HeadersExchange(), Wildcard(), ConsistentHash()):
        assert match(kind, [], "key") == set()


@pytest.mark.parametrize(
    ("kind", "binding", "why"),
    [
        (Fanout(), Binding("q", "", {"a": "b"}), "takes no arguments: 'a'"),
        (Direct(), Binding("q", "", {"a": "b"}), "takes no arguments"),
        (Topic(), Binding("q", "", {"a": "b"}), "takes no arguments"),
        (Wildcard(), Binding("q", "", {"a": "b"}), "takes no arguments"),
        (HeadersExchange(), Binding("q", "", {"x-match": "some"}), "one of all, any"),
        (HeadersExchange(), Binding("q", "", {"x-match": None}), "one of all, any"),
        (HeadersExchange(), Binding("q", "", {"X-Match": "any"}), "did you mean x-match"),
        (ConsistentHash(), Binding("q", "0"), "integer from 1"),
        (ConsistentHash(), Binding("q", "heavy"), "integer from 1"),
        (ConsistentHash(), Binding("q", "", {"weight": None}), "integer from 1"),
        (ConsistentHash(), Binding("q", "", {"weigth": "2"}), "only the argument 'weight'"),
        (ConsistentHash(), Binding("q", "1", {"weight": "2"}), "given twice"),
    ],
)
def test_refused(kind: ExchangeType, binding: Binding, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        kind.validate(binding)


def test_conformance() -> None:
    check_plugin(pykbroker_exchanges)
