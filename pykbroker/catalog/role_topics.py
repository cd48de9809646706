"""Changes that make, grow and delete retry and dead-letter topics, and the hidden topics of flows.

Everything here is decided on one image, and all that belongs together is one proposal: both topics of a
role, the flow behind them, and their growth with the origin.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from pykbroker.catalog import names, placement
from pykbroker.catalog.changes import AddPartitions, Change, CreateTopic, DeleteTopic, SetTopicConfig
from pykbroker.catalog.draft import Draft
from pykbroker.catalog.image import Image, Topic, new_topic_id
from pykbroker.catalog.loops import check_retried, way_back
from pykbroker.catalog.retry_rules import RetryRules
from pykbroker.catalog.retrying import (
    DEAD_LETTER_TOPIC,
    DELAY_ENABLE,
    EXCHANGE_TYPE,
    NO_POLICY,
    POLICY,
    ROLE,
    Role,
    RoleKind,
    delayed_name,
    flow_of,
    flow_of_role,
    held_name,
    role_of,
    sanitised,
)
from pykbroker.config import BrokerConfig, TopicConfig, templates
from pykbroker.config.setting import INT_MAX
from pykbroker.errors import ErrorCode, KafkaError

FLOW_SETTINGS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "compression.type": "producer",
    # What the broker has no use for any more goes with its segment; nothing else does.
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "segment.bytes": str(64 * 1024 * 1024),
    # What was accepted in front is never refused behind, where it has more headers.
    "max.message.bytes": str(INT_MAX),
    "message.timestamp.type": "CreateTime",
}


def _may_be_used(topic: Topic) -> bool:
    return False


def pair(
    image: Image,
    broker: BrokerConfig,
    origin: str,
    group: str,
    known: Collection[str] = (),
    untouched: Callable[[Topic], bool] = _may_be_used,
) -> tuple[list[Change], str, str]:
    """What makes both topics of ``group`` on ``origin``, with the names of retry and dead-letter topic.

    ``known`` are the groups that exist: two of them cannot have the same topic.  ``untouched``: whether
    nothing was ever appended to a topic.  No change where all is there.  Raises :class:`KafkaError`:
    INVALID_CONFIG without a policy, INVALID_TOPIC_EXCEPTION where a name cannot be had.
    """
    rules = RetryRules(image, broker)
    settings = rules.settings(origin, group)
    topic = image.topics.get(origin)
    if topic is None or settings.policy == NO_POLICY:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"there is no {POLICY} for group {group!r} on {origin}: set it on the topic or the group",
        )
    draft, changes = Draft(image), list[Change]()
    for role in (Role(RoleKind.RETRY, origin, group), Role(RoleKind.DEAD_LETTER, origin, group)):
        if role.kind is RoleKind.DEAD_LETTER and settings.shared_dead_letter:
            more = shared(draft.view(), broker, settings.dead_letter_topic, role, len(topic.partitions))
        else:
            rules.check_alone(role, known)
            more = _taken_over(image, rules, role, known, untouched)
            for change in more:
                draft.apply(change)
            changes += more
            more = one(draft.view(), broker, role, len(topic.partitions))
        for change in more:
            draft.apply(change)
        changes += more
    return changes, settings.retry_topic, settings.dead_letter_topic


def _taken_over(
    image: Image, rules: RetryRules, role: Role, known: Collection[str], untouched: Callable[[Topic], bool]
) -> list[Change]:
    """What gives this role to an unused topic of the right name, made for a group that is not there, or for
    nobody in particular.

    A consumer may ask for its retry topic before it joins: then its group is not known yet, and where its
    id has characters that a topic may not have, another group's id is read in the name.  Or it asks before
    there is a policy, and an ordinary topic is made.
    """
    there = image.topics.get(rules.name_for(role))
    if there is None or there.internal:
        return []
    other = role_of(there)
    if other is None:
        if there.overrides or not untouched(there):
            return []
        overrides = {ROLE: role.text, "retention.ms": "-1"}
        return [SetTopicConfig(name=there.name, version=there.config_version, overrides=overrides)]
    if other.group in known or other.group in rules.groups:
        return []
    if other == role or other != Role(role.kind, role.origin, sanitised(role.group)):
        return []
    flow = flow_of_role(other) if role.kind is RoleKind.RETRY else b""
    hidden = [topic for name in (delayed_name(flow), held_name(flow)) if (topic := image.topics.get(name))]
    if not all(untouched(topic) for topic in (there, *hidden)):
        return []
    overrides = {**there.overrides, ROLE: role.text}
    change = SetTopicConfig(name=there.name, version=there.config_version, overrides=overrides)
    return [change, *(DeleteTopic(name=topic.name, topic_id=topic.topic_id) for topic in hidden)]


def one(image: Image, broker: BrokerConfig, role: Role, count: int) -> list[Change]:
    """What makes the topic with ``role``, and its flow, or gives them ``count`` partitions."""
    rules = RetryRules(image, broker)
    there = rules.by_role.get(role.text)
    if there is not None:
        changes = _grown(image, there, count)
    else:
        name = rules.name_for(role)
        _check_name(image, name, role)
        overrides = {ROLE: role.text, "retention.ms": "-1"}
        changes = [_created(image, name, count, overrides, _factor(image, role.origin))]
    if role.kind is RoleKind.RETRY:
        changes += _flow(image, flow_of_role(role), count, {ROLE: role.text}, _factor(image, role.origin))
    return changes


def shared(image: Image, broker: BrokerConfig, name: str, role: Role, count: int) -> list[Change]:
    """What makes a dead-letter topic that several may use, if it is not there; it has no role."""
    there = image.topics.get(name)
    if there is not None:
        check_target(image, broker, name, role.origin, DEAD_LETTER_TOPIC)
        return []
    _check_name(image, name, role)
    overrides = {"retention.ms": "-1", "cleanup.policy": "delete"}
    return [_created(image, name, count, overrides, _factor(image, role.origin))]


def partitions_for(image: Image, role: Role) -> int:
    """How many partitions a topic gets that is made again: the origin's, or its flow's, or one."""
    flow = flow_of_role(Role(RoleKind.RETRY, role.origin, role.group))
    found = [image.topics.get(name) for name in (role.origin, delayed_name(flow), held_name(flow))]
    return max((len(topic.partitions) for topic in found if topic is not None), default=1)


def check_target(
    image: Image, broker: BrokerConfig, name: str, origin: str, setting: str, *, shall_be: bool = False
) -> None:
    """Raise INVALID_CONFIG unless dead letters of ``origin`` may go to the topic ``name``, as far as it
    is there.

    ``shall_be``: no setting says yet that they go there.  Once one does, no policy holds in an ordinary
    topic, and they come to rest there.
    """
    topic = image.topics.get(name)
    role = None if topic is None else role_of(topic)
    if name == origin:
        why = "the topic itself: its failures would come back to it for ever"
    elif name.startswith("__"):
        why = f"{name}, which belongs to the broker"
    elif role is not None and role.kind is RoleKind.RETRY:
        why = f"{name}, which is a retry topic: its dead letters would be retried"
    elif topic is not None and TopicConfig.from_overrides(broker, topic.overrides).compacted:
        why = f"{name}, which is compacted: letters of one key would replace each other"
    elif shall_be and topic is not None and not topic.overrides.get(EXCHANGE_TYPE, "").strip():
        return
    elif way := way_back(RetryRules(image, broker), origin, name):
        why = f"{name}, an exchange that leads to {way[-1]}: they would fail again, for ever"
    else:
        return
    raise KafkaError(ErrorCode.INVALID_CONFIG, f"{setting}: dead letters cannot go to {why}")


def check_dead_letters(
    rules: RetryRules,
    broker: BrokerConfig,
    name: str,
    after: Mapping[str, str],
    before: Mapping[str, str] | None = None,
) -> None:
    """Raise INVALID_CONFIG for settings with which dead letters could not be kept: a target of the topic
    ``name`` that does not fit, or its compaction where it is a target itself.

    ``after`` are its settings; those that are as ``before`` are not looked at again.
    """
    was = before or {}
    template = after.get(DEAD_LETTER_TOPIC, "").strip()
    own = not after.get(EXCHANGE_TYPE, "").strip()  # an exchange has no groups whose failures come back
    if own and template and "{group}" not in template and template != was.get(DEAD_LETTER_TOPIC):
        target = templates.filled(template, name, "")
        check_target(rules.image, broker, target, name, DEAD_LETTER_TOPIC, shall_be=True)
        check_retried(rules, target, name)
    newly = before is None or not TopicConfig.from_overrides(broker, was).compacted
    if newly and TopicConfig.from_overrides(broker, after).compacted and rules.is_dead_letter_target(name):
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"cleanup.policy: {name} gets dead letters and cannot be compacted: letters of one key would "
            "replace each other",
        )


def created_with(topic: CreateTopic) -> list[Change]:
    """The flow that is made together with a topic that delays."""
    if topic.overrides.get(DELAY_ENABLE, "").strip().lower() != "true":
        return []
    return [
        CreateTopic(name=name, topic_id=new_topic_id(), replicas=topic.replicas, overrides=FLOW_SETTINGS)
        for name in (delayed_name(topic.topic_id), held_name(topic.topic_id))
    ]


def deleted_with(image: Image, topic: Topic) -> list[Change]:
    """The flow that goes together with a topic that delays.  What waits behind a retry topic stays."""
    return [*drop_flow(image, topic.topic_id)]


def drop_flow(image: Image, flow_id: bytes) -> list[DeleteTopic]:
    """What deletes the hidden topics of a flow."""
    found = (image.topics.get(name) for name in (delayed_name(flow_id), held_name(flow_id)))
    return [DeleteTopic(name=topic.name, topic_id=topic.topic_id) for topic in found if topic is not None]


def grown_with(image: Image, growth: AddPartitions) -> list[Change]:
    """What grows together with a topic: the flow behind it, retry and dead-letter topics made for it."""
    origin = image.topics[growth.name]
    count = len(origin.partitions) + len(growth.replicas)
    changes = _flow(image, origin.topic_id, count, None, 1) if flow_of(origin) is not None else []
    for topic in image.topics.values():
        role = role_of(topic)
        if role is not None and role.origin == origin.name:
            changes += _grown(image, topic, count)
    return changes


def has_front(image: Image, flow_id: bytes) -> bool:
    """Whether there is a topic in front of this flow."""
    return any(flow_of(topic) == flow_id for topic in image.topics.values())


def _flow(
    image: Image, flow_id: bytes, count: int, own: Mapping[str, str] | None, factor: int
) -> list[Change]:
    changes: list[Change] = []
    for name in (delayed_name(flow_id), held_name(flow_id)):
        there = image.topics.get(name)
        if there is None:
            changes.append(_created(image, name, count, {**FLOW_SETTINGS, **(own or {})}, factor))
        else:
            changes += _grown(image, there, count)
    return changes


def _created(image: Image, name: str, count: int, overrides: Mapping[str, str], factor: int) -> CreateTopic:
    replicas = placement.spread(count, factor, image.brokers)
    return CreateTopic(name=name, topic_id=new_topic_id(), replicas=replicas, overrides=overrides)


def _grown(image: Image, topic: Topic, count: int) -> list[Change]:
    have = len(topic.partitions)
    if have >= count:
        return []
    factor = len(topic.partitions[0].replicas)
    replicas = placement.spread(count - have, factor, image.brokers, first=have)
    return [AddPartitions(name=topic.name, version=topic.version, replicas=replicas)]


def _factor(image: Image, origin: str) -> int:
    topic = image.topics.get(origin)
    return 1 if topic is None else len(topic.partitions[0].replicas)


def _check_name(image: Image, name: str, role: Role) -> None:
    otherwise = ""
    try:
        names.check(name)
        if name.startswith("__"):
            why: str = "such names belong to the broker"
        elif name in image.topics and (other := role_of(image.topics[name])) is not None:
            why = f"the {other.kind.words} of group {other.group!r} on {other.origin} is there already"
        elif name in image.topics:
            why = "an ordinary topic of this name is there already"
            # Mostly a consumer asked for it before there was a policy, and so it was made.
            otherwise = ", or delete that one"
        else:
            names.check_no_collision(name, image.topics)
            return
    except KafkaError as error:
        why = str(error)
    raise KafkaError(
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        f"the {role.kind.words} of group {role.group!r} on {role.origin} cannot be made as {name}: {why}; "
        f"set {role.kind.setting} on the topic or the group{otherwise}",
    )
