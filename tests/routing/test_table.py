"""The closure over exchanges: what is followed, what is a target, alternates, loops, faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pykbroker.catalog.exchange import ExchangeVersion
from pykbroker.components import Binding
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.routing import RoutingTable
from pykbroker.routing.compiled import PluginCompiler
from pykbroker.routing.routes import Routes
from pykbroker.routing.table import CACHED_KEY_LENGTH, CACHED_KEYS
from tests.routing.world import compiler, image, record, version


@pytest.fixture(name="types", scope="module")
def _types() -> Iterator[PluginCompiler]:
    with compiler() as made:
        yield made


def table(types: PluginCompiler, **exchanges: ExchangeVersion) -> RoutingTable:
    return Routes(types, image(exchanges)).current


def targets(found: RoutingTable, key: str = "", *headers: tuple[str, bytes | None]) -> set[str]:
    return set(found.route("entry", record(key, *headers)).targets)


def test_a_target_is_named_once_however_many_bindings_match(types: PluginCompiler) -> None:
    entry = version("topic", Binding("q", "a.*"), Binding("q", "#"), Binding("r", "b"))
    assert targets(table(types, entry=entry), "a.b") == {"q"}


def test_exchanges_are_followed_and_get_no_copies(types: PluginCompiler) -> None:
    found = table(
        types,
        entry=version("fanout", Binding("next"), Binding("q")),
        next=version("direct", Binding("last", "k"), Binding("other", "x")),
        last=version("fanout", Binding("q"), Binding("r")),
    )
    assert targets(found, "k") == {"q", "r"}
    assert targets(found, "x") == {"q", "other"}
    assert targets(found, "y") == {"q"}


def test_loops_are_harmless(types: PluginCompiler) -> None:
    found = table(
        types,
        entry=version("fanout", Binding("entry"), Binding("a")),
        a=version("fanout", Binding("b"), Binding("q")),
        b=version("fanout", Binding("a"), Binding("entry"), Binding("r")),
    )
    assert targets(found) == {"q", "r"}


def test_an_alternate_gets_what_the_exchange_itself_does_not_match(types: PluginCompiler) -> None:
    found = table(
        types,
        entry=version("direct", Binding("a", "k"), Binding("q", "q"), alternate="other"),
        a=version("direct", Binding("r", "r"), alternate="lost"),
        other=version("fanout", Binding("unrouted")),
        lost=version("fanout", Binding("nobody")),
    )
    assert targets(found, "q") == {"q"}
    assert targets(found, "z") == {"unrouted"}
    # "entry" has matched, though what follows leads to no queue: the alternate is that of "a"
    assert targets(found, "k") == {"nobody"}


def test_alternates_in_a_circle_end_in_nothing(types: PluginCompiler) -> None:
    found = table(
        types,
        entry=version("direct", alternate="other"),
        other=version("direct", alternate="entry"),
    )
    routed = found.route("entry", record("k"))
    assert (routed.targets, routed.unroutable) == (frozenset(), True)


def test_explain_says_why(types: PluginCompiler) -> None:
    found = table(
        types,
        entry=version("topic", Binding("a", "x.#"), Binding("q", "x.*"), Binding("r", "y")),
        a=version("direct", Binding("q", "z"), alternate="other"),
        other=version("fanout", Binding("s")),
    )
    explained = found.explain("entry", record("x.y"))
    assert explained.targets == {"q", "s"}
    assert [(step.exchange, step.kind, step.alternate) for step in explained.steps] == [
        ("entry", "topic", None),
        ("a", "direct", "other"),
        ("other", "fanout", None),
    ]
    assert set(explained.steps[0].matched) == {Binding("a", "x.#"), Binding("q", "x.*")}
    assert explained.steps[1].matched == ()


def test_keys_are_remembered_only_where_they_alone_decide(types: PluginCompiler) -> None:
    found = table(
        types,
        entry=version("direct", Binding("q", "plain"), Binding("by", "headers")),
        by=version("headers", Binding("r", "", {"a": "1"})),
    )
    assert targets(found, "headers", ("a", b"1")) == {"r"}
    assert targets(found, "headers", ("a", b"2")) == set()
    assert found.cached("entry", "headers") is None
    assert found.cached("entry", "plain") is None
    assert targets(found, "plain") == {"q"}
    remembered = found.cached("entry", "plain")
    assert remembered is not None
    assert remembered.targets == {"q"}
    assert found.cached("no such exchange", "plain") is None


def test_what_is_remembered_has_bounds(types: PluginCompiler) -> None:
    found = table(types, entry=version("fanout", Binding("q")))
    long = "x" * (CACHED_KEY_LENGTH + 1)
    assert targets(found, long) == {"q"}
    assert found.cached("entry", long) is None
    for number in range(CACHED_KEYS + 1):
        found.route("entry", record(str(number)))
    assert found.cached("entry", "0") is None
    assert found.cached("entry", str(CACHED_KEYS)) is not None


def test_a_fault_counts_as_no_match_and_is_not_remembered(types: PluginCompiler) -> None:
    found = table(
        types,
        entry=version("broken", Binding("q"), alternate="other"),
        other=version("fanout", Binding("unrouted")),
    )
    assert targets(found, "fine") == {"q"}
    for key in ("raise", "nonsense"):
        assert targets(found, key) == {"unrouted"}
        assert found.cached("entry", key) is None
        (step, _) = found.explain("entry", record(key)).steps
        assert "exchanges" not in (step.fault or "")
        assert step.fault


@pytest.mark.parametrize(
    "missing", [version("gone", Binding("q")), version("broken", Binding("q", "no matcher"))]
)
def test_without_its_type_nothing_can_be_said(types: PluginCompiler, missing: ExchangeVersion) -> None:
    found = table(
        types,
        entry=version("direct", Binding("missing", "there"), Binding("q", "here")),
        missing=missing,
    )
    assert targets(found, "here") == {"q"}
    with pytest.raises(KafkaError) as caught:
        targets(found, "there")
    assert caught.value.code is ErrorCode.POLICY_VIOLATION
    assert found.exchanges["missing"].missing is not None


def test_an_entry_must_be_an_exchange(types: PluginCompiler) -> None:
    found = table(types)
    for ask in (found.route, found.explain):
        with pytest.raises(KafkaError, match="q is not an exchange"):
            ask("q", record())
