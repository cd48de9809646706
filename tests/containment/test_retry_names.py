"""``pykbroker.retry.policy`` names what is there, wherever it is set; plugins' settings follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest

from pykbroker import Component, ErrorCode, Kind, PluginSetting, Retry
from pykbroker.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from tests.containment import plugins
from tests.containment.talk import Talk

Harmed = Callable[..., Talk]
POLICY = "pykbroker.retry.policy"
RESOURCES = {"topic": (2, "orders"), "group": (32, "billing"), "broker": (4, "1"), "all brokers": (4, "")}
WAIT = PluginSetting(
    key="wait.ms", kind=Kind.LONG, default=5, minimum=0, doc="W.", scopes=frozenset({"broker", "group"})
)


def mine() -> object:
    """A plugin with the retry policy ``mine``, which has a setting."""

    def register() -> Sequence[Component[object]]:
        policy = SimpleNamespace(decide=lambda ctx: Retry(0))
        return [Component("mine", lambda build: policy, settings=[WAIT])]

    return plugins.plugin("my-plugin", pykbroker_register_retry_policies=register)


def alter(talk: Talk, where: str, name: str, value: str) -> tuple[int, str]:
    """Set one setting; code and message of the answer."""
    kind, resource_name = RESOURCES[where]
    config = AlterableConfig(name=name, config_operation=0, value=value)
    resource = AlterConfigsResource(resource_type=kind, resource_name=resource_name, configs=[config])
    request = IncrementalAlterConfigsRequest(resources=[resource], validate_only=False)
    (answer,) = talk.client.call(request, IncrementalAlterConfigsResponse, 1).responses
    return answer.error_code, answer.error_message or ""


@pytest.mark.parametrize("where", RESOURCES)
def test_only_policies_that_are_there_can_be_named(where: str, harmed: Harmed) -> None:
    talk = harmed(mine())
    talk.create("orders")
    for known in ("exponential", "mine", "none"):
        assert alter(talk, where, POLICY, known) == (0, "")
    for wrong in ("expnential", "sticky", "fixed,linear", ""):
        code, message = alter(talk, where, POLICY, wrong)
        assert code == ErrorCode.INVALID_CONFIG, wrong
        assert POLICY in message
    _, message = alter(talk, where, POLICY, "expnential")
    assert "there are: exponential, fixed, immediate, linear, mine, none" in message


def test_a_topic_is_not_made_with_one_that_is_not_there(harmed: Harmed) -> None:
    talk = harmed()
    assert talk.create("orders", {POLICY: "mine"}) == ErrorCode.INVALID_CONFIG
    assert talk.create("orders", {POLICY: "linear"}) == 0


def test_a_policys_settings_are_set_where_it_says(harmed: Harmed) -> None:
    talk = harmed(mine())
    talk.create("orders")
    name = "pykbroker.plugin.mine.wait.ms"
    assert [alter(talk, where, name, "7")[0] for where in RESOURCES] == [ErrorCode.INVALID_CONFIG, 0, 0, 0]
    assert alter(talk, "group", name, "-7")[0] == ErrorCode.INVALID_CONFIG
