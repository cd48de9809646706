"""CreateTopics, versions 2 to 7.

v4 -1 for the defaults of partitions and replicas; v5 the answer describes the topic and all its
settings (KIP-525), never null; v7 the topic id (KIP-516).  The timeout has no meaning here: the answer
leaves when the topic is durable, which takes one sync.  A name that is a retry or dead-letter topic's has
both made, with as many partitions as the topic that they are for, whatever number was asked for.
"""

from __future__ import annotations

from pykbroker.apis._delivery import known_groups
from pykbroker.apis._registry import RequestContext, api
from pykbroker.catalog.exchanges import described_overrides
from pykbroker.catalog.image import Topic
from pykbroker.catalog.topics import NewTopic, duplicates
from pykbroker.config.describe import describe_topic
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)


def failed(ctx: RequestContext, request: CreateTopicsRequest, code: ErrorCode) -> CreateTopicsResponse:
    """Every topic asked for carries ``code``."""
    return CreateTopicsResponse(topics=[_refused(t.name, KafkaError(code)) for t in request.topics])


@api(CreateTopicsRequest, CreateTopicsResponse, failed=failed)
async def handle(ctx: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse:
    twice = list(duplicates([topic.name for topic in request.topics]))
    refusal = KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
    answers = [_refused(name, refusal) for name in twice]
    wanted = [_wanted(topic) for topic in request.topics if topic.name not in twice]
    known = await known_groups(ctx, [new.name for new in wanted])
    results = await ctx.services.topics.create(
        wanted, validate_only=request.validate_only, known_groups=known
    )
    for new, result in zip(wanted, results, strict=True):
        if isinstance(result, KafkaError):
            answers.append(_refused(new.name, result))
        else:
            answers.append(_created(ctx, result))
    return CreateTopicsResponse(topics=answers)


def _wanted(topic: CreatableTopic) -> NewTopic:
    return NewTopic(
        name=topic.name,
        partitions=topic.num_partitions,
        replication_factor=topic.replication_factor,
        assignments=[(each.partition_index, each.broker_ids) for each in topic.assignments],
        overrides=[(config.name, config.value) for config in topic.configs],
    )


def _refused(name: str, error: KafkaError) -> CreatableTopicResult:
    return CreatableTopicResult(name=name, error_code=error.code, error_message=str(error))


def _created(ctx: RequestContext, topic: Topic) -> CreatableTopicResult:
    catalog = ctx.services.catalog
    entries = describe_topic(catalog.broker_config, described_overrides(catalog.image, topic))
    return CreatableTopicResult(
        name=topic.name,
        topic_id=topic.topic_id,
        error_message=None,
        num_partitions=len(topic.partitions),
        replication_factor=len(topic.partitions[0].replicas),
        configs=[
            CreatableTopicConfigs(
                name=entry.name,
                value=entry.value,
                read_only=entry.read_only,
                config_source=entry.source,
            )
            for entry in entries
        ],
    )
