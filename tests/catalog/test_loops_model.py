"""Whatever clients do, in whatever order: dead letters that always fail again come to rest somewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from unittest import mock

import trio
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.catalog.alter import Alteration, Step, alter
from pykbroker.catalog.image import BROKER, GROUP, TOPIC
from pykbroker.catalog.loops import check_loops, loops, way_back
from pykbroker.catalog.retry_rules import RetryRules
from pykbroker.catalog.retrying import RoleKind, role_of
from pykbroker.errors import ErrorCode, KafkaError
from tests.catalog.test_loops import ALTERNATE, BINDINGS, DEAD, POLICY, World, bound

TOPICS = ("a", "b", "c")
EXCHANGES = ("x", "y", "z")
NAMES = (*TOPICS, *EXCHANGES)
GROUPS = ("g", "h")
REFUSALS = (
    ErrorCode.INVALID_CONFIG,
    ErrorCode.TOPIC_ALREADY_EXISTS,
    ErrorCode.INVALID_TOPIC_EXCEPTION,
)
Op = tuple[str, ...]

names = st.sampled_from(NAMES)
groups = st.sampled_from(GROUPS)
policies = st.sampled_from(("none", "fixed", "linear"))
dead_letters = st.sampled_from((*EXCHANGES, *EXCHANGES, "c", "d", "{topic}.{group}.dlq", "{topic}d"))
topics = st.sampled_from((*TOPICS, *TOPICS, "ad"))
exchanges = st.sampled_from(EXCHANGES)
settings = st.one_of(
    st.tuples(st.just("topic"), topics, st.just(DEAD), dead_letters),
    st.tuples(st.just("topic"), topics, st.just(POLICY), policies),
    st.tuples(st.just("topic"), exchanges, st.just(BINDINGS), names),
    st.tuples(st.just("topic"), exchanges, st.just(ALTERNATE), exchanges),
    st.tuples(st.just("group"), groups, st.just(DEAD), dead_letters),
    st.tuples(st.just("group"), groups, st.just(POLICY), policies),
    st.tuples(st.just("broker"), st.just(""), st.just(DEAD), dead_letters),
    st.tuples(st.just("broker"), st.just(""), st.just(POLICY), policies),
)
altering = st.tuples(st.just("set"), st.lists(settings, min_size=1, max_size=3))
operations = st.one_of(
    st.tuples(st.just("create"), topics, policies, dead_letters),
    st.tuples(st.just("exchange"), names, st.lists(names, max_size=2)),
    st.tuples(st.just("join"), topics, groups),
    st.tuples(st.just("delete"), st.sampled_from((*NAMES, "ad", "a.g.retry", "b.h.retry"))),
    altering,
    altering,
    altering,
)
BEGIN: Sequence[tuple[object, ...]] = (
    *(("exchange", name, []) for name in EXCHANGES),
    ("set", [("group", "h", POLICY, "fixed")]),
    *(("create", name, "fixed" if name == "a" else "none", "{topic}.{group}.dlq") for name in TOPICS),
    ("join", "a", "g"),
    ("join", "b", "h"),
)
KINDS = {"topic": TOPIC, "group": GROUP, "broker": BROKER}


async def _set(world: World, given_: Sequence[Op]) -> None:
    steps: dict[tuple[int, str], list[Step]] = {}
    for kind, name, key, value in given_:
        text = bound(value) if key == BINDINGS else value
        known = steps.setdefault((KINDS[kind], name), [])
        if all(step.name != key for step in known):
            known.append(Step(key, 0, text))
    await alter(
        world.catalog,
        [Alteration(resource_type=kind, name=name, steps=each) for (kind, name), each in steps.items()],
    )


async def _do(world: World, op: tuple[object, ...]) -> None:
    try:
        match op:
            case ("create", str(name), str(policy), str(dead)):
                await world.create(name, {POLICY: policy, DEAD: dead})
            case ("exchange", str(name), list(targets)):
                await world.exchange(name, *targets)
            case ("join", str(name), str(group)):
                await world.topics.ensure(name, group)
            case ("delete", str(name)):
                await world.admin.delete([name])
            case ("set", list(given_)):
                await _set(world, given_)
    except KafkaError as error:
        if error.code not in REFUSALS:
            raise


def circles(rules: RetryRules) -> set[tuple[str, str]]:
    """Origins and exchanges from which letters that always fail come back: all that is looked up by hand."""
    image, found = rules.image, set[tuple[str, str]]()

    def groups_of(name: str) -> set[str]:
        roles = [role_of(topic) for topic in image.topics.values() if not topic.hidden]
        return {r.group for r in roles if r and r.kind is RoleKind.RETRY and r.origin == name}

    def targets(name: str) -> set[str]:
        if not rules.eligible(name):
            return set()
        own = {rules.settings(name, group).dead_letter_topic for group in groups_of(name)}
        topic = image.topics.get(name)
        if topic is not None and topic.overrides.get(POLICY, "none") != "none":
            own.add(rules.settings(name, "").dead_letter_topic if DEAD not in topic.overrides else "")
            own.add(topic.overrides.get(DEAD, "").replace("{topic}", name))
        return own - {""}

    def follow(name: str, seen: set[str]) -> None:
        if name not in seen:
            seen.add(name)
            exchange = image.exchange(name)
            there = name in image.topics
            for each in exchange.current.targets if exchange else targets(name) if there else ():
                follow(each, seen)

    for origin in {*image.topics, *NAMES}:
        for target in targets(origin):
            if image.exchange(target) is not None:
                seen = set[str]()
                follow(target, seen)
                if origin in seen or any(
                    (topic := image.topics.get(each)) is not None
                    and (role := role_of(topic)) is not None
                    and role.kind is RoleKind.RETRY
                    for each in seen
                ):
                    found.add((origin, target))
    return found


def _run(ops: Sequence[tuple[object, ...]], after: Callable[[World, tuple[object, ...]], None]) -> None:
    async def all_of_them() -> None:
        world = World()
        for op in (*BEGIN, *ops):
            await _do(world, op)
            after(world, op)

    trio.run(all_of_them)


@given(st.lists(operations, min_size=20, max_size=40))
def test_no_circle_is_closed(ops: Sequence[tuple[object, ...]]) -> None:
    """Deleting is never refused, and may leave one; what is released looks, and goes round none."""
    known = set[tuple[str, str]]()

    def looked_at(world: World, op: tuple[object, ...]) -> None:
        found = circles(world.catalog.retrying)
        assert found == loops(world.catalog.retrying)
        if op[0] != "delete":
            assert found <= known, f"{op}: {found - known}"
        for origin, target in found:
            assert way_back(world.catalog.retrying, origin, target) is not None
        known.clear()
        known.update(found)

    _run(ops, looked_at)


@given(st.lists(operations, min_size=20, max_size=40))
def test_all_circles_are_found(ops: Sequence[tuple[object, ...]]) -> None:
    """Also where nobody has kept them from being closed."""

    def looked_at(world: World, op: tuple[object, ...]) -> None:
        rules = world.catalog.retrying
        assert circles(rules) == loops(rules)

    with (
        mock.patch("pykbroker.catalog.alter.check_loops", spec=check_loops),
        mock.patch("pykbroker.catalog.topics.check_loops", spec=check_loops),
        mock.patch("pykbroker.catalog.role_topics.way_back", return_value=None),
    ):
        _run(ops, looked_at)
