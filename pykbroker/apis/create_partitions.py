"""CreatePartitions, versions 0 to 3: more partitions for a topic, never fewer.

The versions differ only in how they are encoded.  Retry and dead-letter topics grow with the topic that
they are made for, and never by themselves.
"""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext, api
from pykbroker.catalog.growth import MorePartitions
from pykbroker.catalog.topics import duplicates
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)


def failed(
    ctx: RequestContext, request: CreatePartitionsRequest, code: ErrorCode
) -> CreatePartitionsResponse:
    """Every topic asked for carries ``code``."""
    return CreatePartitionsResponse(results=[_refused(t.name, KafkaError(code)) for t in request.topics])


@api(CreatePartitionsRequest, CreatePartitionsResponse, failed=failed)
async def handle(ctx: RequestContext, request: CreatePartitionsRequest) -> CreatePartitionsResponse:
    twice = list(duplicates([topic.name for topic in request.topics]))
    refusal = KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
    answers = [_refused(name, refusal) for name in twice]
    wanted = [_wanted(topic) for topic in request.topics if topic.name not in twice]
    results = await ctx.services.topics.create_partitions(wanted, validate_only=request.validate_only)
    for each, result in zip(wanted, results, strict=True):
        if isinstance(result, KafkaError):
            answers.append(_refused(each.name, result))
        else:
            answers.append(CreatePartitionsTopicResult(name=each.name))
    return CreatePartitionsResponse(results=answers)


def _wanted(topic: CreatePartitionsTopic) -> MorePartitions:
    given = topic.assignments
    return MorePartitions(
        name=topic.name,
        count=topic.count,
        assignments=None if given is None else [each.broker_ids for each in given],
    )


def _refused(name: str, error: KafkaError) -> CreatePartitionsTopicResult:
    return CreatePartitionsTopicResult(name=name, error_code=error.code, error_message=str(error))
