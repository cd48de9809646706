"""OffsetCommit (key 8), versions 2 to 10: keep offsets for a group.

- Versions 2 to 4 carry a retention time, 6 a leader epoch, 7 (KIP-345) a static member, 8 is flexible,
  9 (KIP-848) calls the generation a member epoch (classic groups: the generation still) and answers
  GROUP_ID_NOT_FOUND for a member of an unknown group, 10 (KIP-848) names topics by id.
- Partitions that do not exist are refused one by one, before the group is asked; so are those whose
  metadata asks for what cannot be (INVALID_REQUEST; see :mod:`pykbroker.delivery.nacks`).
"""

from __future__ import annotations

from collections.abc import Iterator

from pykbroker.apis._delivery import commit_checks
from pykbroker.apis._registry import RequestContext, api
from pykbroker.catalog.image import Topic
from pykbroker.delivery.nacks import may_ask
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.groups.messages import Commit, OffsetToCommit
from pykbroker.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

Row = tuple[OffsetCommitRequestTopic, OffsetCommitRequestPartition]


def failed(ctx: RequestContext, request: OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse:
    """``code`` for every partition."""
    return _answer(request, iter([code] * sum(len(topic.partitions) for topic in request.topics)))


@api(OffsetCommitRequest, OffsetCommitResponse, failed=failed)
async def handle(ctx: RequestContext, request: OffsetCommitRequest) -> OffsetCommitResponse:
    """Commit what can be committed."""
    errors: list[ErrorCode] = []
    known: list[tuple[int, OffsetToCommit]] = []
    for topic in request.topics:
        found, missing = _find(ctx, topic)
        for partition in topic.partitions:
            if found is None or not 0 <= partition.partition_index < len(found.partitions):
                errors.append(missing)
                continue
            code = ErrorCode.NONE
            if partition.committed_metadata and may_ask(partition.committed_metadata):
                code = await _check(ctx, request.group_id, found, partition)
            if code is ErrorCode.NONE:
                known.append((len(errors), _wanted(found, partition)))
            errors.append(code)
    if known:
        codes = await _commit(ctx, request, tuple(wanted for _, wanted in known))
        for (place, _), code in zip(known, codes, strict=True):
            errors[place] = code
    return _answer(request, iter(errors))


def _find(ctx: RequestContext, topic: OffsetCommitRequestTopic) -> tuple[Topic | None, ErrorCode]:
    """The topic, and the code for what it does not have."""
    image = ctx.services.catalog.image
    if ctx.version < 10:
        return image.topics.get(topic.name), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    found = image.topic_by_id(topic.topic_id)
    return found, ErrorCode.UNKNOWN_TOPIC_ID if found is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


async def _check(
    ctx: RequestContext, group: str, topic: Topic, partition: OffsetCommitRequestPartition
) -> ErrorCode:
    """The code for a commit that asks for something."""
    checks = commit_checks(ctx)
    if checks is None:
        return ErrorCode.NONE
    index, offset = partition.partition_index, partition.committed_offset
    return await checks.check(group, topic, index, offset, partition.committed_metadata or "")


def _wanted(topic: Topic, partition: OffsetCommitRequestPartition) -> OffsetToCommit:
    return OffsetToCommit(
        topic=topic.name,
        topic_id=topic.topic_id,
        partition=partition.partition_index,
        offset=partition.committed_offset,
        leader_epoch=partition.committed_leader_epoch,
        metadata=partition.committed_metadata or "",
    )


async def _commit(
    ctx: RequestContext, request: OffsetCommitRequest, wanted: tuple[OffsetToCommit, ...]
) -> tuple[ErrorCode, ...]:
    commit = Commit(
        group_id=request.group_id,
        member_id=request.member_id,
        generation=request.generation_id_or_member_epoch,
        instance_id=request.group_instance_id,
        retention_ms=request.retention_time_ms,
        group_must_exist=ctx.version >= 9,
        offsets=wanted,
    )
    try:
        return (await ctx.services.groups.commit(commit)).errors
    except KafkaError as error:
        return (error.code,) * len(wanted)


def _answer(request: OffsetCommitRequest, errors: Iterator[ErrorCode]) -> OffsetCommitResponse:
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitResponsePartition(partition_index=p.partition_index, error_code=next(errors))
                    for p in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
