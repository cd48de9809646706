"""Policies that do harm: what cannot be asked has not agreed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest

from pykbroker import Component, ErrorCode, PolicyViolation, TopicPolicyContext
from pykbroker.testing import BrokerThread
from tests.containment import plugins
from tests.containment.talk import Talk

Check = Callable[[TopicPolicyContext], object]


def policy(hook: str, check: Check) -> object:
    def register() -> Sequence[Component[object]]:
        return [Component("harm", lambda build: SimpleNamespace(check=check))]

    return plugins.plugin("harmful", **{hook: register})


def test_a_topic_policy_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    harm = policy("pykbroker_register_topic_policies", plugins.raising)
    with BrokerThread(plugins=[harm]) as broker, Talk(broker.bootstrap) as talk:
        code, message = talk.creation("orders")
        assert code == ErrorCode.UNKNOWN_SERVER_ERROR
        assert "plugin harmful failed in topic policy harm" in (message or "")
        assert talk.produce("orders", b"v").error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert "plugin=harmful in=topic policy harm topic=orders" in caplog.text


def test_a_topic_policy_that_cannot_be_registered(caplog: pytest.LogCaptureFixture) -> None:
    def register() -> object:
        raise RuntimeError("out of order")

    harm = plugins.plugin("harmful", pykbroker_register_topic_policies=register)
    with BrokerThread(plugins=[harm]) as broker, Talk(broker.bootstrap) as talk:
        code, message = talk.creation("orders")
        assert code == ErrorCode.POLICY_VIOLATION
        assert "harmful" in (message or "")


def test_a_policy_that_was_made_for_another_api() -> None:
    def register() -> Sequence[Component[object]]:
        return [Component("harm", lambda build: SimpleNamespace(check=plugins.raising), api=7)]

    harm = plugins.plugin("harmful", pykbroker_register_config_policies=register)
    with BrokerThread(plugins=[harm]) as broker, Talk(broker.bootstrap) as talk:
        assert talk.create("orders") == 0
        answer = talk.alter("orders", retention_ms="5")
        assert answer.error_code == ErrorCode.POLICY_VIOLATION
        assert "api 7" in (answer.error_message or "")


def test_a_config_policy_that_raises_changes_nothing() -> None:
    harm = policy("pykbroker_register_config_policies", plugins.raising)
    with BrokerThread(plugins=[harm]) as broker, Talk(broker.bootstrap) as talk:
        assert talk.create("orders", {"retention.ms": "1000"}) == 0
        answer = talk.alter("orders", retention_ms="5")
        assert answer.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
        topic = broker.run(lambda: broker.broker.services.catalog.image.topics["orders"])
        assert topic.overrides == {"retention.ms": "1000"}


def test_a_refusal_is_the_policys_own_words() -> None:
    def check(ctx: TopicPolicyContext) -> None:
        raise PolicyViolation(f"no {ctx.topic} here")

    harm = policy("pykbroker_register_topic_policies", check)
    with BrokerThread(plugins=[harm]) as broker, Talk(broker.bootstrap) as talk:
        assert talk.creation("orders") == (ErrorCode.POLICY_VIOLATION, "no orders here")


def test_topics_that_nobody_asked_for_are_held_to_them_too() -> None:
    asked: list[TopicPolicyContext] = []

    def check(ctx: TopicPolicyContext) -> None:
        asked.append(ctx)
        raise PolicyViolation("no")

    harm = policy("pykbroker_register_topic_policies", check)
    with BrokerThread(plugins=[harm]) as broker, Talk(broker.bootstrap) as talk:
        talk.metadata("orders")
        assert broker.run(lambda: "orders" not in broker.broker.services.catalog.image.topics)
    assert [ctx.automatic for ctx in asked] == [True] * len(asked)
    assert asked
