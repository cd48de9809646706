"""What plugins say to changes of topics and settings: all policies must agree.

Policies are asked where a change is decided, so also for validate-only requests, and once more when a
decision is made again after a conflict.  One that raises anything but PolicyViolation, or cannot be
made, has not agreed: the change is refused.  The broker's own topics are not asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pykbroker.catalog.image import BROKER, GROUP, TOPIC
from pykbroker.components import (
    CONFIG_POLICY,
    TOPIC_POLICY,
    ConfigPolicyContext,
    PolicyViolation,
    TopicPolicyContext,
)
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.plugins import ComponentFault, Guard, Plugins

C = TypeVar("C")

RESOURCES: Mapping[int, str] = {TOPIC: "topic", BROKER: "broker", GROUP: "group"}


class Policies:
    """The policies of all plugins.  Raises :class:`KafkaError`: POLICY_VIOLATION with the policy's words,
    UNKNOWN_SERVER_ERROR for one that failed."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    def check_topic(self, ctx: TopicPolicyContext) -> None:
        """Ask about a topic that is about to be made or to grow."""
        for name in self._plugins.components(TOPIC_POLICY):
            policy = self._plugins.build(TOPIC_POLICY, name)
            _ask(self._plugins.guard(TOPIC_POLICY, name), policy.check, ctx)

    def check_config(
        self, resource_type: int, name: str, before: Mapping[str, str], after: Mapping[str, str]
    ) -> None:
        """Ask about other settings of a resource; its type is the protocol's number."""
        resource = RESOURCES[resource_type]
        ctx = ConfigPolicyContext(resource=resource, name=name, before=dict(before), after=dict(after))
        for each in self._plugins.components(CONFIG_POLICY):
            policy = self._plugins.build(CONFIG_POLICY, each)
            _ask(self._plugins.guard(CONFIG_POLICY, each), policy.check, ctx)


def _ask(guard: Guard, check: Callable[[C], None], ctx: C) -> None:
    try:
        guard.call(check, ctx, expected=PolicyViolation)
    except PolicyViolation as violation:
        raise KafkaError(ErrorCode.POLICY_VIOLATION, str(violation)) from violation
    except ComponentFault as fault:
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, str(fault)) from fault
