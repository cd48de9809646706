"""What clients may do to topics: creation, deletion, growth, and every rule that refuses them.

Each call takes a list and answers item by item, as Kafka's admin APIs do: what can be done is done in
one proposal (one sync), what cannot gets its own error.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pykbroker.catalog import ingress, names, placement, role_topics
from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.changes import (
    Change,
    CreateTopic,
    DeleteTopic,
    ObjectTooLarge,
    SetTopicConfig,
    encode,
)
from pykbroker.catalog.draft import Draft
from pykbroker.catalog.growth import MAX_NEW_PARTITIONS, MorePartitions, growth, too_many_partitions
from pykbroker.catalog.image import INTERNAL, Image, Topic, new_topic_id
from pykbroker.catalog.internal import internal_topic
from pykbroker.catalog.loops import altered_by, check_has_failures, check_loops
from pykbroker.catalog.policies import Policies
from pykbroker.catalog.retry_rules import RetryRules
from pykbroker.catalog.retrying import NO_POLICY, POLICY, Role, role_of
from pykbroker.catalog.role_topics import check_dead_letters
from pykbroker.config import BrokerConfig, ConfigError
from pykbroker.config.topic import check_topic_overrides
from pykbroker.errors import ErrorCode, KafkaError

log = logging.getLogger(__name__)

CLUSTER_METADATA = "__cluster_metadata"
"""KRaft's own log; Kafka refuses a topic of this name, and so do we."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTopic:
    """A topic that somebody wants.  -1 means the default; ``assignments`` are (partition, node ids)
    and stand in place of both numbers.  ``automatic``: only its metadata was asked for."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    assignments: Sequence[tuple[int, Sequence[int]]] = ()
    overrides: Sequence[tuple[str, str | None]] = ()
    automatic: bool = False


class TopicAdmin:
    """Topics as administrators see them.  ``policies`` must agree to what clients want to make."""

    def __init__(self, catalog: Catalog, policies: Policies | None = None) -> None:
        self._catalog = catalog
        self._policies = policies

    async def create(
        self,
        wanted: Sequence[NewTopic],
        *,
        validate_only: bool = False,
        known_groups: Collection[str] = (),
    ) -> list[Topic | KafkaError]:
        """Create each topic; the answer has it, or why not.

        With ``validate_only`` nothing happens, and the answer says what would have.  A name that is that
        of a retry or dead-letter topic of one of the ``known_groups`` gets both topics made, with the
        origin's partitions whatever their number is here.
        """
        total = sum(self._partition_count(new) for new in wanted)
        if total > MAX_NEW_PARTITIONS:
            error = too_many_partitions(total)
            return [error for _ in wanted]
        if not self._may_retry(wanted):
            decide = functools.partial(self._creation, known=None)
            return await self._each(wanted, decide, validate_only=validate_only)
        decide = functools.partial(self._creation, known=known_groups)
        # An origin has a shorter name than what is made for it, and must come first.
        order = sorted(range(len(wanted)), key=lambda index: len(wanted[index].name))
        results = await self._each([wanted[i] for i in order], decide, validate_only=validate_only)
        by_index = dict(zip(order, results, strict=True))
        return [by_index[index] for index in range(len(wanted))]

    def _may_retry(self, wanted: Sequence[NewTopic]) -> bool:
        return self._catalog.retrying.any_policy or any(
            name == POLICY and value != NO_POLICY for new in wanted for name, value in new.overrides
        )

    async def delete(self, targets: Sequence[str | bytes]) -> list[Topic | KafkaError]:
        """Delete topics by name or id; the answer has each as it was, or why it stays."""
        return await self._each(targets, self._deletion)

    async def create_partitions(
        self, wanted: Sequence[MorePartitions], *, validate_only: bool = False
    ) -> list[Topic | KafkaError]:
        """Give each topic more partitions; the answer has it as it is now, or why not."""
        return await self._each(wanted, self._growth, validate_only=validate_only)

    async def ensure_internal(self, name: str) -> Topic:
        """The internal topic ``name`` (``__consumer_offsets`` or ``__transaction_state``, or a hidden
        one with one partition), created if it is not there yet.

        Raises KafkaError when the catalog cannot be written.
        """
        config = self._catalog.broker_config
        image = await self._catalog.update(
            lambda image: [] if name in image.topics else [internal_topic(config, image, name)]
        )
        return image.topics[name]

    async def auto_create(
        self, wanted: Sequence[str], *, known_groups: Collection[str] = ()
    ) -> dict[str, KafkaError | None]:
        """Create topics that somebody asked the metadata of, with all defaults.

        The answer has None for those that exist now, also when another request was first.
        """
        results: dict[str, KafkaError | None] = {}
        for name in wanted:
            if name in INTERNAL:
                await self.ensure_internal(name)
                results[name] = None
        rest = [NewTopic(name=name, automatic=True) for name in wanted if name not in INTERNAL]
        created = await self.create(rest, known_groups=known_groups)
        for new, result in zip(rest, created, strict=True):
            if isinstance(result, Topic) or result.code is ErrorCode.TOPIC_ALREADY_EXISTS:
                results[new.name] = None
                log.info("topic created because it was asked for: topic=%s", new.name)
            else:
                results[new.name] = result
        return results

    async def _each(
        self,
        wanted: Sequence[Item],
        decide: Callable[[Image, Item], tuple[Sequence[Change], Callable[[Image], Topic]]],
        *,
        validate_only: bool = False,
    ) -> list[Topic | KafkaError]:
        """Decide item by item, each on the image that the ones before it lead to; propose together."""
        results: list[Topic | KafkaError] = []

        def decide_all(image: Image) -> list[Change]:
            results.clear()
            changes: list[Change] = []
            draft = Draft(image)
            for item in wanted:
                before = draft.view()
                try:
                    decided, answer = decide(before, item)
                    for change in decided:
                        encode(change)
                except KafkaError as error:
                    results.append(error)
                except ObjectTooLarge as error:
                    results.append(KafkaError(ErrorCode.INVALID_REQUEST, str(error)))
                else:
                    for change in decided:
                        draft.apply(change)
                    results.append(answer(draft.view()))
                    changes += decided
            return [] if validate_only else changes

        await self._catalog.update(decide_all)
        return results

    def _partition_count(self, new: NewTopic) -> int:
        if new.assignments:
            return len(new.assignments)
        return self._catalog.broker_config.num_partitions if new.partitions == -1 else max(new.partitions, 0)

    def _creation(
        self, image: Image, new: NewTopic, *, known: Collection[str] | None
    ) -> tuple[Sequence[Change], Callable[[Image], Topic]]:
        """``known`` are the groups; None: no group has a policy anywhere."""
        names.check(new.name)
        names.check_not_reserved(new.name)
        if new.name == CLUSTER_METADATA:
            raise KafkaError(
                ErrorCode.TOPIC_AUTHORIZATION_FAILED, f"Creation of internal topic {new.name} is prohibited."
            )
        if new.name in image.topics:
            made = self._made_with_another(image, new)
            if made is not None:
                return made, lambda after: after.topics[new.name]
            raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{new.name}' already exists.")
        if new.name in INTERNAL:
            raise KafkaError(
                ErrorCode.INVALID_TOPIC_EXCEPTION, f"{new.name} is made by the broker when it is needed."
            )
        rules = RetryRules(image, self._catalog.broker_config)
        role = rules.waited_for.get(new.name) if known is None else rules.role_for(new.name, known)
        if role is not None:
            changes = self._creation_for_failures(image, new, role, known or ())
            return changes, lambda after: after.topics[new.name]
        names.check_no_collision(new.name, image.topics)
        replicas, given = self._replicas(image, new), self._overrides(new.overrides)
        overrides, exchange = self._catalog.exchange_rules.creation(image, new.name, given)
        change = CreateTopic(name=new.name, topic_id=new_topic_id(), replicas=replicas, overrides=overrides)
        check_dead_letters(rules, self._catalog.broker_config, new.name, overrides)
        check_has_failures(rules, new.name, overrides, {})
        if self._policies is not None:
            asked = dataclasses.replace(change, overrides=given)  # with bindings, as the client says it
            self._policies.check_creation(asked, automatic=new.automatic)
        behind = [*ingress.created_with(change), *role_topics.created_with(change)]
        changes = [change, *behind, *exchange]
        check_loops(image, self._catalog.broker_config, changes, altered_by(changes, {}, overrides))
        return changes, lambda after: after.topics[new.name]

    def _made_with_another(self, image: Image, new: NewTopic) -> list[Change] | None:
        """What is left to do if the topic came to be with another one of the same request: who asks for a
        group's retry and dead-letter topics has both made by the first; None: it was there before."""
        there = image.topics[new.name]
        if role_of(there) is None or new.name in self._catalog.image.topics:
            return None
        given = self._overrides(new.overrides)
        if not given:
            return []
        overrides = {**there.overrides, **given}
        _check_overrides(self._catalog.broker_config, overrides, before=there.overrides)
        return [SetTopicConfig(name=there.name, version=there.config_version, overrides=overrides)]

    def _creation_for_failures(
        self, image: Image, new: NewTopic, role: Role, known: Collection[str]
    ) -> list[Change]:
        """What makes both topics of the group, or without a policy the one; it gets the settings asked for.

        No policy of a plugin is asked: it is the broker that needs them.
        """
        broker = self._catalog.broker_config
        rules = RetryRules(image, broker)
        if role.origin in image.topics and rules.settings(role.origin, role.group).policy != NO_POLICY:
            changes, _, _ = role_topics.pair(image, broker, role.origin, role.group, known)
        else:
            changes = role_topics.one(image, broker, role, role_topics.partitions_for(image, role))
        given = self._overrides(new.overrides)
        for index, change in enumerate(changes):
            if given and isinstance(change, CreateTopic) and change.name == new.name:
                overrides = {**change.overrides, **given}
                _check_overrides(broker, overrides, before=change.overrides)
                changes[index] = dataclasses.replace(change, overrides=overrides)
        return changes

    def _deletion(
        self, image: Image, target: str | bytes
    ) -> tuple[Sequence[Change], Callable[[Image], Topic]]:
        topic = image.topics.get(target) if isinstance(target, str) else image.topic_by_id(target)
        if topic is None:
            raise KafkaError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                if isinstance(target, str)
                else ErrorCode.UNKNOWN_TOPIC_ID,
                "This server does not host this topic-partition."
                if isinstance(target, str)
                else "This server does not host this topic ID.",
            )
        if topic.internal:
            raise KafkaError(
                ErrorCode.INVALID_TOPIC_EXCEPTION,
                f"{topic.name} belongs to the broker and cannot be deleted.",
            )
        found = topic
        before = self._catalog.exchange_rules.deletion(image, topic)
        change = DeleteTopic(name=topic.name, topic_id=topic.topic_id)
        behind = [*ingress.deleted_with(image, topic), *role_topics.deleted_with(image, topic)]
        return [*before, *behind, change], lambda _: found

    def _growth(
        self, image: Image, wanted: MorePartitions
    ) -> tuple[Sequence[Change], Callable[[Image], Topic]]:
        change = growth(image, wanted)
        if self._policies is not None:
            self._policies.check_growth(image.topics[wanted.name], change)
        more = [*ingress.grown_with(image, change), *role_topics.grown_with(image, change)]
        return [change, *more], lambda after: after.topics[wanted.name]

    def _replicas(self, image: Image, new: NewTopic) -> placement.Replicas:
        config = self._catalog.broker_config
        if new.assignments:
            if new.replication_factor != -1:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST,
                    "A manual partition assignment was specified, but replication factor was not set to -1.",
                )
            if new.partitions != -1:
                raise KafkaError(
                    ErrorCode.INVALID_REQUEST,
                    "A manual partition assignment was specified, but numPartitions was not set to -1.",
                )
            return placement.check_manual(placement.in_order(new.assignments), image.brokers)
        factor = config.default_replication_factor if new.replication_factor == -1 else new.replication_factor
        if factor <= 0:
            raise KafkaError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            )
        if new.partitions < -1 or new.partitions == 0:
            raise KafkaError(
                ErrorCode.INVALID_PARTITIONS,
                "Number of partitions was set to an invalid non-positive value.",
            )
        return placement.spread(self._partition_count(new), factor, image.brokers)

    def _overrides(self, pairs: Sequence[tuple[str, str | None]]) -> dict[str, str]:
        nulls = [name for name, value in pairs if value is None]
        if nulls:
            raise KafkaError(
                ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {','.join(nulls)}"
            )
        overrides = {name: value for name, value in pairs if value is not None}
        _check_overrides(self._catalog.broker_config, overrides)
        return overrides


def _check_overrides(
    broker: BrokerConfig, overrides: Mapping[str, str], before: Mapping[str, str] | None = None
) -> None:
    try:
        check_topic_overrides(broker, overrides, before)
    except ConfigError as error:
        raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from None


def duplicates(given: Sequence[str]) -> Iterator[str]:
    """Names that appear more than once, each once, in order."""
    seen: dict[str, int] = {}
    for name in given:
        seen[name] = seen.get(name, 0) + 1
    return (name for name, count in seen.items() if count > 1)
