"""What commits may ask where, and what is refused before their group is asked."""

from __future__ import annotations

import logging
from enum import Enum
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from pykbroker.catalog.retrying import (
    DLQ_GROUP,
    NO_POLICY,
    RoleKind,
    any_policy,
    is_dead_letter_target,
    retry_settings,
    role_of,
)
from pykbroker.delivery.letters import is_exchange, why_not
from pykbroker.delivery.nacks import Nack, WrongShape, parse, shown
from pykbroker.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.image import Topic
    from pykbroker.delivery.topics import DeliveryTopics

log = logging.getLogger(__name__)

REPEAT_S = 10.0
"""Time between two lines of the log about what a group does not say as it should."""
_TOLD = 1000
"""Groups and topics of which it is remembered what was said."""

_FOR_GOOD = frozenset(
    {
        ErrorCode.INVALID_CONFIG,
        ErrorCode.INVALID_PARTITIONS,
        ErrorCode.INVALID_REPLICATION_FACTOR,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.POLICY_VIOLATION,
        ErrorCode.TOPIC_ALREADY_EXISTS,
    }
)
"""Why topics cannot be made that will be no better after a while."""


class Meaning(Enum):
    """What the nacks of a group on a topic are."""

    FAILURES = "failures"
    """They count, and their records are retried."""
    NOTHING = "nothing"
    """Metadata like any other: the group has no policy there."""
    MISTAKES = "mistakes"
    """They are not interpreted where somebody may have thought they are, so the log says so."""


def meaning(catalog: Catalog, topic: Topic, group: str) -> Meaning:
    """What a nack of ``group`` on ``topic`` is."""
    role = role_of(topic)
    if role is not None and not topic.hidden:
        # Whether the group has a policy (still) is the flow's business: what has failed is kept.
        own = role.kind is RoleKind.RETRY and role.group == group
        return Meaning.FAILURES if own else Meaning.MISTAKES
    if not any_policy(catalog):
        return Meaning.NOTHING
    if topic.internal or is_exchange(catalog, topic) or is_dead_letter_target(catalog, topic.name):
        return Meaning.MISTAKES
    policy = retry_settings(catalog, topic.name, group).policy
    return Meaning.NOTHING if policy == NO_POLICY else Meaning.FAILURES


class CommitChecks:
    """Asked by OffsetCommit for metadata of which :func:`~pykbroker.delivery.nacks.may_ask` is true."""

    def __init__(self, catalog: Catalog, topics: DeliveryTopics) -> None:
        self._catalog = catalog
        self._topics = topics
        self._told: dict[tuple[str, str], float] = {}

    async def check(self, group: str, topic: Topic, partition: int, offset: int, metadata: str) -> ErrorCode:
        """INVALID_REQUEST where the commit of ``offset`` asks for what cannot be, which is logged; the other
        partitions of the request are none the worse.  NONE where nothing is interpreted.

        What only cannot be done now is answered with a code after which clients commit again.
        """
        try:
            asked = parse(metadata)
            if group == DLQ_GROUP:
                why = (
                    None if asked is None or isinstance(asked, Nack) else why_not(self._catalog, topic, asked)
                )
            else:
                why = (
                    await self._why_not_nacked(group, topic, offset, asked)
                    if isinstance(asked, Nack)
                    else None
                )
        except WrongShape as error:
            if group != DLQ_GROUP:
                counts = meaning(self._catalog, topic, group) is Meaning.FAILURES
                if counts and self._is_news(group, topic.name, REPEAT_S):
                    log.warning(
                        "a nack is not understood, the commit is applied: group=%s partition=%s-%d: %s",
                        group, topic.name, partition, error,
                    )  # fmt: skip
                return ErrorCode.NONE
            why = str(error)
        except KafkaError as error:
            log.warning(
                "commit put off: group=%s partition=%s-%d: there is nowhere to retry yet: %s",
                group, topic.name, partition, error,
            )  # fmt: skip
            if error.code is ErrorCode.LEADER_NOT_AVAILABLE:
                return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        if why is None:
            return ErrorCode.NONE
        log.warning("commit refused: group=%s partition=%s-%d: %s", group, topic.name, partition, why)
        return ErrorCode.INVALID_REQUEST

    async def _why_not_nacked(self, group: str, topic: Topic, offset: int, nack: Nack) -> str | None:
        meant = meaning(self._catalog, topic, group)
        if meant is Meaning.NOTHING:
            self._without_policy(group, topic.name)
        if not nack.ranges or meant is not Meaning.FAILURES:
            return None
        last = nack.ranges[-1][1]
        if last >= offset:
            beyond = tuple((max(first, offset), last) for first, last in nack.ranges if last >= offset)
            return (
                f"only what lies below the committed offset can be nacked: committed={offset} "
                f"nacked={shown(beyond)}; commit the offset behind the record, that is its own plus 1"
            )
        try:
            role = role_of(topic)
            if role is None:
                await self._topics.ensure(topic.name, group)
            else:
                await self._topics.ensure_topic(role)
        except KafkaError as error:
            if error.code not in _FOR_GOOD:
                raise
            return f"there is nowhere to retry: {error}"
        return None

    def _is_news(self, group: str, topic: str, repeat_s: float) -> bool:
        """Whether the log has not just said it: such commits are not refused, so they come on and on."""
        last, now = self._told.get((group, topic)), monotonic()
        if last is not None and now - last < repeat_s:
            return False
        if len(self._told) >= _TOLD:
            self._told.clear()
        self._told[group, topic] = now
        return True

    def _without_policy(self, group: str, topic: str) -> None:
        """Say once what the group will wait for in vain."""
        if not self._is_news(group, topic, inf):
            return
        log.warning(
            "nacks do nothing, the commits are applied: group=%s topic=%s: no policy holds there, set "
            "pykbroker.retry.policy on the topic or the group", group, topic,
        )  # fmt: skip
