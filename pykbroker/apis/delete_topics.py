"""DeleteTopics, versions 1 to 6.

v5 error messages; v6 topics by name or id (KIP-516).  Where we differ on purpose: internal topics are
refused with INVALID_TOPIC_EXCEPTION; Apache Kafka 4.3.1 deletes ``__consumer_offsets`` when asked.  What
waits for a retry topic that is deleted stays; what waits for a topic that delays goes with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from pykbroker.protocol.schema import ZERO_UUID


def failed(ctx: RequestContext, request: DeleteTopicsRequest, code: ErrorCode) -> DeleteTopicsResponse:
    """Every topic asked for carries ``code``."""
    return DeleteTopicsResponse(
        responses=[_refused(each.name, each.topic_id, KafkaError(code)) for each in _given(request)]
    )


@api(DeleteTopicsRequest, DeleteTopicsResponse, failed=failed)
async def handle(ctx: RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
    if not ctx.services.catalog.broker_config.delete_topic_enable:
        code = ErrorCode.TOPIC_DELETION_DISABLED if ctx.version >= 3 else ErrorCode.INVALID_REQUEST
        return failed(ctx, request, code)
    targets, answers = _sorted_out(ctx, request)
    results = await ctx.services.topics.delete(targets)
    for target, result in zip(targets, results, strict=True):
        if isinstance(result, KafkaError):
            name, topic_id = (target, ZERO_UUID) if isinstance(target, str) else (None, target)
            answers.append(_refused(name, topic_id, result))
        else:
            answers.append(DeletableTopicResult(name=result.name, topic_id=result.topic_id))
    return DeleteTopicsResponse(responses=answers)


def _given(request: DeleteTopicsRequest) -> Iterator[DeleteTopicState]:
    yield from request.topics
    yield from (DeleteTopicState(name=name) for name in request.topic_names)


def _sorted_out(
    ctx: RequestContext, request: DeleteTopicsRequest
) -> tuple[list[str | bytes], list[DeletableTopicResult]]:
    """What to delete, by name or id, each once; and the answers for what cannot be understood."""
    answers: list[DeletableTopicResult] = []
    counts: dict[str | bytes, int] = {}
    for each in _given(request):
        if each.name is None and each.topic_id == ZERO_UUID:
            answers.append(_invalid(None, ZERO_UUID, "Neither topic name nor id were specified."))
        elif each.name is not None and each.topic_id != ZERO_UUID:
            message = "You may not specify both topic name and topic id."
            answers.append(_invalid(each.name, each.topic_id, message))
        else:
            key = each.topic_id if each.name is None else each.name
            counts[key] = counts.get(key, 0) + 1
    targets: list[str | bytes] = []
    for key, count in counts.items():
        if count > 1 and isinstance(key, str):
            answers.append(_invalid(key, ZERO_UUID, "Duplicate topic name."))
        elif count > 1 and isinstance(key, bytes):
            answers.append(_invalid(None, key, "Duplicate topic id."))
        elif isinstance(key, str) and (topic_id := _id_of(ctx, key)) in counts:
            message = "The provided topic name maps to an ID that was already supplied."
            answers.append(_invalid(key, topic_id, message))
        else:
            targets.append(key)
    return targets, answers


def _id_of(ctx: RequestContext, name: str) -> bytes:
    topic = ctx.services.catalog.image.topics.get(name)
    return ZERO_UUID if topic is None else topic.topic_id


def _invalid(name: str | None, topic_id: bytes, message: str) -> DeletableTopicResult:
    return _refused(name, topic_id, KafkaError(ErrorCode.INVALID_REQUEST, message))


def _refused(name: str | None, topic_id: bytes, error: KafkaError) -> DeletableTopicResult:
    return DeletableTopicResult(name=name, topic_id=topic_id, error_code=error.code, error_message=str(error))
