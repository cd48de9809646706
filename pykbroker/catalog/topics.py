"""What clients may do to topics: creation, deletion, growth, and every rule that refuses them.

Each call takes a list and answers item by item, as Kafka's admin APIs do: what can be done is done in
one proposal (one sync), what cannot gets its own error.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pykbroker.catalog import ingress, names, placement
from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.changes import (
    AddPartitions,
    Change,
    CreateTopic,
    DeleteTopic,
    ObjectTooLarge,
    encode,
)
from pykbroker.catalog.draft import Draft
from pykbroker.catalog.image import INTERNAL, Image, Topic, new_topic_id
from pykbroker.catalog.internal import internal_topic
from pykbroker.catalog.policies import Policies
from pykbroker.config import ConfigError
from pykbroker.config.topic import check_topic_overrides
from pykbroker.errors import ErrorCode, KafkaError

log = logging.getLogger(__name__)

MAX_NEW_PARTITIONS = 10_000
"""Kafka's ceiling for the partitions that one request may make."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class MorePartitions:
    """A topic that is to have ``count`` partitions; ``assignments`` are node ids per new one."""

    name: str
    count: int
    assignments: Sequence[Sequence[int]] | None = None


class TopicAdmin:
    """Topics as administrators see them.  ``policies`` must agree to what clients want to make."""

    def __init__(self, catalog: Catalog, policies: Policies | None = None) -> None:
        self._catalog = catalog
        self._policies = policies

    async def create(
        self, wanted: Sequence[NewTopic], *, validate_only: bool = False
    ) -> list[Topic | KafkaError]:
        """Create each topic; the answer has it, or why not.

        With ``validate_only`` nothing happens, and the answer says what would have.
        """
        total = sum(self._partition_count(new) for new in wanted)
        if total > MAX_NEW_PARTITIONS:
            error = _too_many_partitions(total)
            return [error for _ in wanted]
        return await self._each(wanted, self._creation, validate_only=validate_only)

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

    async def auto_create(self, wanted: Sequence[str]) -> dict[str, KafkaError | None]:
        """Create topics that somebody asked the metadata of, with all defaults.

        The answer has None for those that exist now, also when another request was first.
        """
        results: dict[str, KafkaError | None] = {}
        for name in wanted:
            if name in INTERNAL:
                await self.ensure_internal(name)
                results[name] = None
        rest = [NewTopic(name=name, automatic=True) for name in wanted if name not in INTERNAL]
        for new, result in zip(rest, await self.create(rest), strict=True):
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

    def _creation(self, image: Image, new: NewTopic) -> tuple[Sequence[Change], Callable[[Image], Topic]]:
        names.check(new.name)
        names.check_not_reserved(new.name)
        if new.name == CLUSTER_METADATA:
            raise KafkaError(
                ErrorCode.TOPIC_AUTHORIZATION_FAILED, f"Creation of internal topic {new.name} is prohibited."
            )
        if new.name in image.topics:
            raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{new.name}' already exists.")
        if new.name in INTERNAL:
            raise KafkaError(
                ErrorCode.INVALID_TOPIC_EXCEPTION, f"{new.name} is made by the broker when it is needed."
            )
        names.check_no_collision(new.name, image.topics)
        replicas, given = self._replicas(image, new), self._overrides(new.overrides)
        overrides, exchange = self._catalog.exchange_rules.creation(image, new.name, given)
        change = CreateTopic(name=new.name, topic_id=new_topic_id(), replicas=replicas, overrides=overrides)
        if self._policies is not None:
            asked = dataclasses.replace(change, overrides=given)  # with bindings, as the client says it
            self._policies.check_creation(asked, automatic=new.automatic)
        return [change, *ingress.created_with(change), *exchange], lambda after: after.topics[new.name]

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
        return [*before, *ingress.deleted_with(image, topic), change], lambda _: found

    def _growth(
        self, image: Image, wanted: MorePartitions
    ) -> tuple[Sequence[Change], Callable[[Image], Topic]]:
        change = _growth(image, wanted)
        if self._policies is not None:
            self._policies.check_growth(image.topics[wanted.name], change)
        return [change, *ingress.grown_with(image, change)], lambda after: after.topics[wanted.name]

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
        try:
            check_topic_overrides(self._catalog.broker_config, overrides)
        except ConfigError as error:
            raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from None
        return overrides


def _growth(image: Image, wanted: MorePartitions) -> AddPartitions:
    topic = image.topics.get(wanted.name)
    if topic is None or topic.hidden:
        raise KafkaError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition."
        )
    if topic.internal:
        raise KafkaError(
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"The partitions of {topic.name} are fixed: keys are placed by their number.",
        )
    have = len(topic.partitions)
    if wanted.count == have:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {have} partition(s).")
    if wanted.count < have:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {topic.name} currently has {have} partition(s); {wanted.count} would not be an "
            "increase.",
        )
    more = wanted.count - have
    if more > MAX_NEW_PARTITIONS:
        raise _too_many_partitions(more)
    return AddPartitions(
        name=topic.name, version=topic.version, replicas=_more_replicas(image, topic, more, wanted)
    )


def _more_replicas(image: Image, topic: Topic, more: int, wanted: MorePartitions) -> placement.Replicas:
    factor = len(topic.partitions[0].replicas)
    if wanted.assignments is None:
        return placement.spread(more, factor, image.brokers, first=len(topic.partitions))
    if len(wanted.assignments) != more:
        raise KafkaError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Attempted to add {more} additional partition(s), but only {len(wanted.assignments)} "
            "assignment(s) were specified.",
        )
    return placement.check_manual(wanted.assignments, image.brokers)


def _too_many_partitions(count: int) -> KafkaError:
    return KafkaError(
        ErrorCode.POLICY_VIOLATION,
        f"Excessively large number of partitions per request: {count}, allowed: {MAX_NEW_PARTITIONS}",
    )


def duplicates(given: Sequence[str]) -> Iterator[str]:
    """Names that appear more than once, each once, in order."""
    seen: dict[str, int] = {}
    for name in given:
        seen[name] = seen.get(name, 0) + 1
    return (name for name, count in seen.items() if count > 1)
