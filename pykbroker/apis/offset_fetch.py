"""OffsetFetch (key 9), versions 1 to 10: the committed offsets of groups.

- Version 2 may ask for everything (null topics) and has an error for the group, 5 answers with leader
  epochs, 6 is flexible, 7 (KIP-447) may ask for stable offsets only, 8 (KIP-709) takes several groups,
  9 (KIP-848) names the asking member, 10 names topics by id.
- Nothing committed is offset -1 without an error, for unknown groups and partitions too.

Where we differ: ``require_stable`` changes nothing, there being no transactions yet; the member of
version 9 is not checked, as Kafka does not for classic groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.messages import FetchedOffset
from pykbroker.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from pykbroker.protocol.schema import ZERO_UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedTopic:
    """A topic of a request; ``name`` None: the id is not known."""

    name: str | None
    topic_id: bytes
    partitions: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTopic:
    """A topic of an answer: offsets, each with its code."""

    name: str
    topic_id: bytes
    offsets: Sequence[tuple[FetchedOffset, ErrorCode]]


def failed(ctx: RequestContext, request: OffsetFetchRequest, code: ErrorCode) -> OffsetFetchResponse:
    """``code`` for every group."""
    if ctx.version >= 8:
        return OffsetFetchResponse(groups=[_refused(group.group_id, code) for group in request.groups])
    if ctx.version >= 2:
        return OffsetFetchResponse(error_code=code)
    # Version 1 has no place but the partitions.
    topics = [
        _found(wanted, [FetchedOffset("", wanted.topic_id, p) for p in wanted.partitions], code)
        for wanted in _wanted_by_name(ctx, request) or ()
    ]
    return OffsetFetchResponse(topics=[_old_topic(topic) for topic in topics])


@api(OffsetFetchRequest, OffsetFetchResponse, failed=failed)
async def handle(ctx: RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse:
    """Look up the offsets of each group."""
    if ctx.version >= 8:
        return OffsetFetchResponse(groups=[await _fetch_group(ctx, group) for group in request.groups])
    try:
        topics = await _fetch(ctx, request.group_id, _wanted_by_name(ctx, request))
    except KafkaError as error:
        return failed(ctx, request, error.code)
    return OffsetFetchResponse(topics=[_old_topic(topic) for topic in topics])


async def _fetch_group(ctx: RequestContext, group: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup:
    try:
        topics = await _fetch(ctx, group.group_id, _wanted_of(ctx, group))
    except KafkaError as error:
        return _refused(group.group_id, error.code)
    return OffsetFetchResponseGroup(
        group_id=group.group_id,
        topics=[
            OffsetFetchResponseTopics(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[_new_partition(at, code) for at, code in topic.offsets],
            )
            for topic in topics
        ],
    )


def _wanted_by_name(ctx: RequestContext, request: OffsetFetchRequest) -> list[WantedTopic] | None:
    if request.topics is None:
        return None
    return [_named(ctx, topic.name, topic.partition_indexes) for topic in request.topics]


def _wanted_of(ctx: RequestContext, group: OffsetFetchRequestGroup) -> list[WantedTopic] | None:
    if group.topics is None:
        return None
    if ctx.version < 10:
        return [_named(ctx, topic.name, topic.partition_indexes) for topic in group.topics]
    names = ctx.services.catalog.image.names_by_id
    return [
        WantedTopic(name=names.get(t.topic_id), topic_id=t.topic_id, partitions=t.partition_indexes)
        for t in group.topics
    ]


def _named(ctx: RequestContext, name: str, partitions: Sequence[int]) -> WantedTopic:
    return WantedTopic(name=name, topic_id=_id_of(ctx, name), partitions=partitions)


def _id_of(ctx: RequestContext, name: str) -> bytes:
    topic = ctx.services.catalog.image.topics.get(name)
    return ZERO_UUID if topic is None else topic.topic_id


async def _fetch(ctx: RequestContext, group_id: str, wanted: list[WantedTopic] | None) -> list[FoundTopic]:
    if wanted is None:
        return _by_topic(ctx, await ctx.services.groups.fetch(group_id, None))
    places = [(t.name, t.topic_id, p) for t in wanted if t.name is not None for p in t.partitions]
    offsets = iter(await ctx.services.groups.fetch(group_id, places))
    found = []
    for topic in wanted:
        if topic.name is None:
            unknown = [FetchedOffset("", topic.topic_id, partition) for partition in topic.partitions]
            found.append(_found(topic, unknown, ErrorCode.UNKNOWN_TOPIC_ID))
        else:
            found.append(_found(topic, [next(offsets) for _ in topic.partitions], ErrorCode.NONE))
    return found


def _found(wanted: WantedTopic, offsets: Iterable[FetchedOffset], code: ErrorCode) -> FoundTopic:
    return FoundTopic(
        name=wanted.name or "", topic_id=wanted.topic_id, offsets=[(at, code) for at in offsets]
    )


def _by_topic(ctx: RequestContext, offsets: Iterable[FetchedOffset]) -> list[FoundTopic]:
    """All offsets of a group.  Without an id a topic cannot be named in version 10: it is left out."""
    topics: dict[str, list[tuple[FetchedOffset, ErrorCode]]] = {}
    ids: dict[str, bytes] = {}
    for at in offsets:
        topics.setdefault(at.topic, []).append((at, ErrorCode.NONE))
        ids[at.topic] = at.topic_id if at.topic_id != ZERO_UUID else _id_of(ctx, at.topic)
    return [
        FoundTopic(name=name, topic_id=ids[name], offsets=found)
        for name, found in topics.items()
        if ctx.version < 10 or ids[name] != ZERO_UUID
    ]


def _refused(group_id: str, code: ErrorCode) -> OffsetFetchResponseGroup:
    return OffsetFetchResponseGroup(group_id=group_id, topics=[], error_code=code)


def _old_topic(topic: FoundTopic) -> OffsetFetchResponseTopic:
    return OffsetFetchResponseTopic(
        name=topic.name,
        partitions=[
            OffsetFetchResponsePartition(
                partition_index=at.partition,
                committed_offset=at.offset,
                committed_leader_epoch=at.leader_epoch,
                metadata=at.metadata,
                error_code=code,
            )
            for at, code in topic.offsets
        ],
    )


def _new_partition(at: FetchedOffset, code: ErrorCode) -> OffsetFetchResponsePartitions:
    return OffsetFetchResponsePartitions(
        partition_index=at.partition,
        committed_offset=at.offset,
        committed_leader_epoch=at.leader_epoch,
        metadata=at.metadata,
        error_code=code,
    )
