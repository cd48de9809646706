"""Which table was in force for which record, and what is compiled again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from pykbroker.catalog.image import Image
from pykbroker.components import Binding, RoutingContext
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.routing import Routes
from pykbroker.routing.compiled import Match
from tests.routing.world import image, record, version

A, B = b"entry".ljust(16, b"."), b"b".ljust(16, b".")


class Counting:
    """A compiler of one type, in which everything matches; counts what it compiles."""

    def __init__(self) -> None:
        self.compiled: list[str] = []

    def compile(
        self, kind: str, exchange: str, settings: Mapping[str, str], bindings: Sequence[Binding]
    ) -> tuple[Match, bool]:
        if kind != "all":
            raise KafkaError(ErrorCode.POLICY_VIOLATION, f"no type {kind}")
        self.compiled.append(exchange)

        def match(ctx: RoutingContext) -> Sequence[Binding]:
            return bindings

        return match, True


def targets(routes: Routes, topic_id: bytes, partition: int, offset: int) -> tuple[set[str], int | None]:
    table, until = routes.at(topic_id, partition, offset)
    return set(table.route("entry", record("k")).targets), until


def two_changes() -> Image:
    return image(
        {
            "entry": [
                version("all", Binding("q1")),
                version("all", Binding("q1"), Binding("b"), number=2, boundaries={A: (10, 0)}),
            ],
            "b": [
                version("all", Binding("q2")),
                version("all", Binding("q3"), number=2, boundaries={A: (20, 5), B: (3,)}),
            ],
        }
    )


def test_a_record_is_routed_by_what_was_in_force_when_it_was_appended() -> None:
    routes = Routes(Counting(), two_changes())
    assert targets(routes, A, 0, 0) == ({"q1"}, 10)
    assert targets(routes, A, 0, 9) == ({"q1"}, 10)
    assert targets(routes, A, 0, 10) == ({"q1", "q2"}, 20)
    assert targets(routes, A, 0, 20) == ({"q1", "q3"}, None)
    assert targets(routes, A, 1, 0) == ({"q1", "q2"}, 5)
    assert targets(routes, A, 1, 5) == ({"q1", "q3"}, None)


def test_what_a_version_does_not_name_came_later() -> None:
    routes = Routes(Counting(), two_changes())
    assert targets(routes, A, 2, 0) == ({"q1", "q3"}, None)  # a partition that was added
    assert targets(routes, b"another exchange", 0, 0) == ({"q1", "q3"}, None)


def test_tables_of_the_past_are_shared() -> None:
    compiler = Counting()
    routes = Routes(compiler, two_changes())
    assert routes.at(A, 0, 3)[0] is routes.at(A, 0, 7)[0]
    assert routes.at(A, 0, 20)[0] is routes.current
    routes.at(A, 0, 10)
    assert sorted(compiler.compiled) == ["b", "b", "entry", "entry"]


def test_only_what_changed_is_compiled_again() -> None:
    compiler = Counting()
    before = image({"entry": version("all", Binding("b")), "b": version("all", Binding("q"))})
    routes = Routes(compiler, before)
    changed = image({"b": [before.exchanges["b"].current, version("all", Binding("r"), number=2)]})
    after = dataclasses.replace(before, exchanges={**before.exchanges, **changed.exchanges})
    compiler.compiled.clear()
    routes.follow(after)
    assert compiler.compiled == ["b"]
    assert targets(routes, A, 0, 0) == ({"r"}, None)
    routes.follow(dataclasses.replace(after, version=9))
    assert compiler.compiled == ["b"]


def test_other_settings_of_an_exchange_compile_it_again() -> None:
    compiler = Counting()
    before = image({"entry": version("all", Binding("q"))})
    routes = Routes(compiler, before)
    topic = dataclasses.replace(before.topics["entry"], overrides={"pykbroker.plugin.all.x": "1"})
    routes.follow(dataclasses.replace(before, topics={"entry": topic}))
    assert compiler.compiled == ["entry", "entry"]


def test_a_deleted_exchange_is_there_for_records_from_before() -> None:
    before = image({"entry": version("all", Binding("b")), "b": version("all", Binding("q"))})
    routes = Routes(Counting(), before)
    entry = [before.exchanges["entry"].current, version("all", number=2, boundaries={A: (4,)})]
    gone = [before.exchanges["b"].current, version(None, number=2, boundaries={A: (5,)})]
    after = image({"entry": entry, "b": gone})
    routes.follow(dataclasses.replace(after, topics={"entry": after.topics["entry"]}))
    assert targets(routes, A, 0, 3) == ({"q"}, 4)
    assert targets(routes, A, 0, 4) == (set(), 5)
    assert "b" not in routes.current.exchanges


def test_an_exchange_that_cannot_be_compiled_does_not_keep_others_from_routing() -> None:
    routes = Routes(Counting(), image({"entry": version("all", Binding("q")), "b": version("none")}))
    assert targets(routes, A, 0, 0) == ({"q"}, None)
    assert routes.current.exchanges["b"].missing is not None
