"""Roles, flows, and which retry settings hold for a group on a topic."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.catalog import retry_rules
from pykbroker.catalog.changes import CreateTopic, SetSettings
from pykbroker.catalog.image import BROKER, GROUP, Topic, new_topic_id
from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.retrying import (
    Role,
    RoleKind,
    any_policy,
    delayed_name,
    flow_id_of,
    flow_of,
    flow_of_role,
    held_name,
    is_dead_letter_target,
    retry_settings,
    role_of,
    sanitised,
)
from pykbroker.config import BrokerConfig
from pykbroker.errors import ErrorCode, KafkaError

POLICY = "pykbroker.retry.policy"
DEAD = "pykbroker.dead.letter.topic"
ROLE = "pykbroker.role"


class World:
    """A catalog that tests fill by hand."""

    def __init__(self, *sets: str) -> None:
        self.catalog = MemoryCatalog(BrokerConfig.load(sets=sets))

    def topic(self, name: str, overrides: Mapping[str, str] | None = None) -> Topic:
        change = CreateTopic(
            name=name, topic_id=new_topic_id(), replicas=((1,),), overrides=dict(overrides or {})
        )
        self.catalog.propose_nowait([change])
        return self.catalog.image.topics[name]

    def settings(self, kind: int, name: str, values: Mapping[str, str]) -> None:
        version = self.catalog.image.settings_of(kind, name).version
        change = SetSettings(resource_type=kind, name=name, version=version, values=dict(values))
        self.catalog.propose_nowait([change])

    def policy(self, origin: str, group: str = "billing") -> str:
        return retry_settings(self.catalog, origin, group).policy

    def role_for(self, name: str, *known: str) -> Role | None:
        return self.catalog.retrying.role_for(name, known)


@given(
    st.sampled_from(RoleKind),
    st.from_regex(r"[A-Za-z0-9._-]+", fullmatch=True),
    st.text(min_size=1).filter(lambda text: text.isprintable()),
)
def test_roles_have_a_text(kind: RoleKind, origin: str, group: str) -> None:
    role = Role(kind, origin, group)
    assert Role.parse(role.text) == role


@pytest.mark.parametrize("text", ["", "retry", "retry:a", "retry::g", "retry:a:", "other:a:g"])
def test_what_is_no_role(text: str) -> None:
    assert Role.parse(text) is None


def test_flows_have_names_of_their_own() -> None:
    world = World()
    role = Role(RoleKind.RETRY, "orders", "billing")
    retry = world.topic("orders.billing.retry", {ROLE: role.text})
    delays = world.topic("later", {"pykbroker.delay.enable": "true"})
    letters = world.topic("orders.billing.dlq", {ROLE: Role(RoleKind.DEAD_LETTER, "orders", "billing").text})
    flow = flow_of(retry)
    assert flow is not None
    assert len(flow) == 16
    again = world.topic("another.name", {ROLE: role.text})
    assert flow_of(again) == flow
    assert flow_of(delays) == delays.topic_id
    assert flow_of(letters) is None
    assert flow_of(world.topic("plain")) is None
    for name in (delayed_name(flow), held_name(flow)):
        hidden = world.topic(name, {ROLE: role.text})
        assert (flow_id_of(name), flow_of(hidden), role_of(hidden)) == (flow, None, role)
    assert flow_id_of("orders") is None


def test_a_group_wins_over_the_topic_and_that_over_the_broker() -> None:
    world = World(f"{POLICY}=linear", "pykbroker.retry.delay.ms=1", "pykbroker.retry.max.attempts=9")
    world.topic(
        "orders", {"pykbroker.retry.delay.ms": "2", "pykbroker.plugin.a.x": "1", "pykbroker.plugin.a.y": "1"}
    )
    world.settings(
        GROUP, "billing", {POLICY: "fixed", "pykbroker.plugin.a.x": "2", "share.auto.offset.reset": "latest"}
    )
    found = retry_settings(world.catalog, "orders", "billing")
    assert (found.policy, found.delay_ms, found.max_attempts, found.max_delay_ms) == ("fixed", 2, 9, 3600000)
    assert found.overrides == {"pykbroker.plugin.a.x": "2", "pykbroker.plugin.a.y": "1"}
    assert (found.retry_topic, found.dead_letter_topic) == ("orders.billing.retry", "orders.billing.dlq")
    assert not found.shared_dead_letter
    assert world.policy("orders", "other") == "linear"
    gone = retry_settings(world.catalog, "gone", "billing")
    assert (gone.policy, gone.delay_ms) == ("fixed", 1)
    world.settings(GROUP, "billing", {POLICY: "none"})
    assert world.policy("orders") == "none"
    world.settings(BROKER, "", {POLICY: "immediate"})
    assert world.policy("orders", "other") == "immediate"


def test_who_never_has_a_policy() -> None:
    world = World(f"{POLICY}=fixed", f"{DEAD}=all.dead")
    world.topic("orders")
    world.topic("exchange", {"pykbroker.exchange.type": "fanout", DEAD: "unroutable"})
    world.topic("orders.billing.retry", {ROLE: "retry:orders:billing"})
    world.topic("own", {DEAD: "{topic}.dead"})
    world.settings(GROUP, "g", {DEAD: "dead.of.{group}", POLICY: "linear"})
    for name in ("__mine", "__consumer_offsets", "all.dead", "unroutable", "own.dead", "dead.of.anybody"):
        world.topic(name)
    assert world.policy("orders") == world.policy("own") == "fixed"
    assert world.policy("orders", "g") == "linear"
    for name in world.catalog.image.topics:
        if name not in ("orders", "own"):
            assert world.policy(name, "g") == "none", name
    assert world.policy("orders", "pykbroker.dlq") == world.policy("orders", "") == "none"
    assert is_dead_letter_target(world.catalog, "own.dead")
    assert not is_dead_letter_target(world.catalog, "orders.dead")
    assert not is_dead_letter_target(world.catalog, "orders.billing.retry")


def test_names_of_what_is_there_are_kept() -> None:
    world = World(f"{POLICY}=fixed")
    world.topic("orders")
    world.topic("old.retry", {ROLE: "retry:orders:billing"})
    world.topic("old.dead", {ROLE: "dlq:orders:billing"})
    found = retry_settings(world.catalog, "orders", "billing")
    assert (found.retry_topic, found.dead_letter_topic) == ("old.retry", "old.dead")
    world.settings(GROUP, "billing", {DEAD: "shared"})
    found = retry_settings(world.catalog, "orders", "billing")
    assert (found.dead_letter_topic, found.shared_dead_letter) == ("shared", True)
    with pytest.raises(KafkaError, match=r"old\.retry"):
        world.role_for("orders.billing.retry")


def test_an_empty_dead_letter_topic_is_the_default() -> None:
    world = World()
    world.topic("orders", {DEAD: ""})
    assert retry_settings(world.catalog, "orders", "a b").dead_letter_topic == "orders.a_b.dlq"


def test_whether_there_is_any_policy() -> None:
    world = World()
    world.topic("orders", {POLICY: "none"})
    assert not any_policy(world.catalog)
    world.settings(GROUP, "g", {POLICY: "fixed"})
    assert any_policy(world.catalog)


def test_a_name_is_matched_with_the_longest_topic_first() -> None:
    world = World(f"{POLICY}=fixed")
    for name in ("orders", "orders.eu", "ord"):
        world.topic(name)
    assert world.role_for("orders.eu.billing.retry") == Role(RoleKind.RETRY, "orders.eu", "billing")
    assert world.role_for("orders.us.billing.dlq") == Role(RoleKind.DEAD_LETTER, "orders", "us.billing")
    assert world.role_for("orders.retry") is None
    assert world.role_for("other.billing.retry") is None
    assert world.role_for("orders") is None


def test_the_known_group_is_meant() -> None:
    world = World()
    world.topic("orders", {POLICY: "fixed"})
    name = "orders.a_b.retry"
    assert world.role_for(name) == Role(RoleKind.RETRY, "orders", "a_b")
    assert world.role_for(name, "a b", "c") == Role(RoleKind.RETRY, "orders", "a b")
    with pytest.raises(KafkaError, match=r"'a b' and 'a_b'.*pykbroker\.retry\.topic") as caught:
        world.role_for(name, "a b", "a_b")
    assert caught.value.code is ErrorCode.INVALID_TOPIC_EXCEPTION
    with pytest.raises(KafkaError, match="a/b"):
        world.catalog.retrying.check_alone(Role(RoleKind.RETRY, "orders", "a b"), ["a/b", "a b"])
    world.settings(GROUP, "a_b", {"pykbroker.retry.topic": "r-{group}-{topic}"})
    assert world.role_for(name, "a b", "a_b") == Role(RoleKind.RETRY, "orders", "a b")
    assert world.role_for("r-a_b-orders") == Role(RoleKind.RETRY, "orders", "a_b")
    world.settings(GROUP, "a b", {POLICY: "none"})
    assert world.role_for(name, "a b", "a_b") is None


def test_many_groups_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a topic that is not there asks again and again, of a broker with many groups."""
    world = World()
    world.topic("orders", {POLICY: "fixed"})
    known = frozenset(f"group/{number}" for number in range(1000))
    asked: list[str] = []

    def counting(group: str) -> str:
        asked.append(group)
        return sanitised(group)

    monkeypatch.setattr(retry_rules, "sanitised", counting)
    rules = world.catalog.retrying
    for number in range(100):
        assert rules.role_for(f"orders.group_{number}.other", known) is None
        role = rules.role_for(f"orders.group_{number}.retry", known)
        assert role == Role(RoleKind.RETRY, "orders", f"group/{number}")
    assert len(asked) < 2000


def test_without_a_policy_a_name_is_like_any_other() -> None:
    world = World()
    world.topic("orders")
    assert world.role_for("orders.billing.retry") is None
    world.settings(GROUP, "billing", {POLICY: "fixed"})
    assert world.role_for("orders.billing.retry") == Role(RoleKind.RETRY, "orders", "billing")
    assert world.role_for("orders.other.retry") is None


def test_what_a_flow_waits_for_keeps_its_names() -> None:
    """Neither the origin nor a policy is needed: something waits to go there."""
    world = World()
    role = Role(RoleKind.RETRY, "orders", "bil:ling")
    letters = Role(RoleKind.DEAD_LETTER, "orders", "bil:ling")
    world.topic(held_name(flow_of_role(role)), {ROLE: role.text})
    assert world.role_for("orders.bil_ling.retry") == role
    assert world.role_for("orders.bil_ling.dlq") == letters
    world.topic("orders.bil_ling.retry", {ROLE: role.text})
    assert world.role_for("orders.bil_ling.retry") is None
    world.settings(GROUP, "bil:ling", {DEAD: "letters"})
    assert world.role_for("letters") is None


def test_groups_ids_become_fit_for_topics() -> None:
    assert sanitised("a/b:c d.é_-Z9") == "a_b_c_d.__-Z9"
