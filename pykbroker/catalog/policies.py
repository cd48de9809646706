"""What plugins say to changes of topics and settings: all policies must agree.

Policies are asked where a change is decided, so also for validate-only requests, and once more when a
decision is made again after a conflict.  One that raises anything but PolicyViolation, cannot be
made, or was left out at start has not agreed: the change is refused.  Nobody is asked about the broker's
own topics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pykbroker.catalog.bindings import render
from pykbroker.catalog.changes import (
    AddPartitions,
    Change,
    CreateTopic,
    SetExchange,
    SetSettings,
    SetTopicConfig,
)
from pykbroker.catalog.exchanges import BINDINGS
from pykbroker.catalog.image import BROKER, GROUP, TOPIC, Image, Topic
from pykbroker.components import (
    CONFIG_POLICY,
    TOPIC_POLICY,
    ComponentKind,
    ConfigPolicyContext,
    PolicyViolation,
    TopicPolicyContext,
)
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.plugins import ComponentFault, Guard, Plugins

C = TypeVar("C")
T = TypeVar("T")

RESOURCES: Mapping[int, str] = {TOPIC: "topic", BROKER: "broker", GROUP: "group"}


class Policies:
    """The policies of all plugins.  Raises :class:`KafkaError`: POLICY_VIOLATION with the policy's words,
    UNKNOWN_SERVER_ERROR for one that failed."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    def check_creation(self, change: CreateTopic, *, automatic: bool) -> None:
        """Ask about a topic that is about to be made."""
        self._check_topic(
            TopicPolicyContext(
                topic=change.name,
                partitions=len(change.replicas),
                replication_factor=len(change.replicas[0]),
                settings=dict(change.overrides),
                automatic=automatic,
            )
        )

    def check_growth(self, topic: Topic, change: AddPartitions) -> None:
        """Ask about a topic that is about to get more partitions."""
        self._check_topic(
            TopicPolicyContext(
                topic=topic.name,
                partitions=len(topic.partitions) + len(change.replicas),
                replication_factor=len(change.replicas[0]),
                settings=dict(topic.overrides),
                created=False,
            )
        )

    def check_alteration(self, image: Image, change: Change) -> None:
        """Ask about other settings of a topic, a group, or brokers."""
        if isinstance(change, SetTopicConfig):
            before, after = _with_bindings(image, change.name, change.overrides)
            resource = RESOURCES[TOPIC]
        elif isinstance(change, SetExchange) and (change.bind or change.unbind or change.replace):
            before, _ = _with_bindings(image, change.name, {})
            bound = change.applied_to(image.exchanges.get(change.name)).bindings
            after, resource = {**before, BINDINGS: render(bound)}, RESOURCES[TOPIC]
        elif isinstance(change, SetSettings):
            before, after = image.settings_of(change.resource_type, change.name).values, change.values
            resource = RESOURCES[change.resource_type]
        else:
            return
        ctx = ConfigPolicyContext(resource=resource, name=change.name, before=dict(before), after=dict(after))
        self._check_all_there(CONFIG_POLICY)
        for name in self._plugins.components(CONFIG_POLICY):
            policy = self._plugins.build(CONFIG_POLICY, name)
            _ask(self._plugins.guard(CONFIG_POLICY, name), policy.check, ctx)

    def _check_topic(self, ctx: TopicPolicyContext) -> None:
        self._check_all_there(TOPIC_POLICY)
        for name in self._plugins.components(TOPIC_POLICY):
            policy = self._plugins.build(TOPIC_POLICY, name)
            _ask(self._plugins.guard(TOPIC_POLICY, name), policy.check, ctx)

    def _check_all_there(self, kind: ComponentKind[T]) -> None:
        """A rule that was left out at start cannot agree to anything."""
        for problem in self._plugins.problems:
            if problem.kind == kind.name:
                raise KafkaError(
                    ErrorCode.POLICY_VIOLATION,
                    f"a {kind} of plugin {problem.plugin} was left out at start: {problem.message}",
                )


def _with_bindings(
    image: Image, name: str, after: Mapping[str, str]
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The topic's own settings now, and ``after``, both with the bindings that it has, if any."""
    now, exchange = image.topics[name].overrides, image.exchange(name)
    bound = {BINDINGS: render(exchange.bindings)} if exchange is not None and exchange.bindings else {}
    return {**now, **bound}, {**after, **bound}


def _ask(guard: Guard, check: Callable[[C], None], ctx: C) -> None:
    try:
        guard.call(check, ctx, expected=PolicyViolation)
    except PolicyViolation as violation:
        raise KafkaError(ErrorCode.POLICY_VIOLATION, str(violation)) from violation
    except ComponentFault as fault:
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, str(fault)) from fault
