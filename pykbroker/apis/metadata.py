"""Metadata, versions 0 to 13: which brokers and topics there are, and who leads what.

v1 controller and internal topics, and an empty list means no topics (in v0: all); v4 may refuse
auto-creation; v7 leader epochs; v8 authorised operations; v10 topic ids (KIP-516); v12 topics by id;
v13 a top-level error code.

A topic that is created because somebody asked for it is answered with UNKNOWN_TOPIC_OR_PARTITION that
one time, as Apache Kafka does; it exists when the answer arrives.  Where we differ: why a name cannot
be created (INVALID_TOPIC_EXCEPTION for names that collide) is said, Kafka leaves the client to retry.
Clients are told the endpoints of the listener that they came by; a broker without one is left out, and
so is the leader of its partitions.  Retry and dead-letter topics are made when their name is asked for,
also where ``auto.create.topics.enable`` is off; and the answer has them at once, because consumers join
without a topic that they are told is not there, and some look again only after five minutes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from pykbroker.apis._delivery import known_groups
from pykbroker.apis._registry import RequestContext, api
from pykbroker.catalog import names
from pykbroker.catalog.image import INTERNAL, Image, PartitionState, Topic
from pykbroker.catalog.retrying import role_of
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from pykbroker.protocol.schema import ZERO_UUID

TOPIC_OPERATIONS = 3576
"""Bits of all operations on a topic: read, write, create, delete, alter, describe, and its configs."""
CLUSTER_OPERATIONS = 8096
"""Bits of all operations on a cluster."""
BY_ID_SINCE = 12
"""First version that asks for topics by id."""


def failed(ctx: RequestContext, request: MetadataRequest, code: ErrorCode) -> MetadataResponse:
    """Every topic asked for carries ``code``."""
    nameless = "" if ctx.version < BY_ID_SINCE else None  # the answer's name may be null from then on
    topics = [
        _refused(nameless if topic.name is None else topic.name, topic.topic_id, code)
        for topic in request.topics or ()
    ]
    return MetadataResponse(topics=topics, error_code=code)


@api(MetadataRequest, MetadataResponse, failed=failed)
async def handle(ctx: RequestContext, request: MetadataRequest) -> MetadataResponse:
    catalog = ctx.services.catalog
    before = catalog.image
    _check_names(ctx.version, request)
    if request.topics is None or (ctx.version == 0 and not request.topics):
        found = [_described(ctx, request, before, topic) for topic in before.visible_topics()]
    else:
        codes = await _create_missing(ctx, request, request.topics)
        found = list(_found(ctx, request, before, request.topics, codes))
    image = catalog.image
    asked = request.include_cluster_authorized_operations
    return MetadataResponse(
        brokers=list(_brokers(image, ctx.listener)),
        cluster_id=image.cluster_id,
        controller_id=controller_id(ctx),
        topics=found,
        **({"cluster_authorized_operations": CLUSTER_OPERATIONS} if asked else {}),
    )


def _check_names(version: int, request: MetadataRequest) -> None:
    """v10 and v11 have a place for topic ids that must be left empty, as in Apache Kafka."""
    if version < BY_ID_SINCE and any(t.name is None or t.topic_id != ZERO_UUID for t in request.topics or ()):
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"topics are asked for by name in Metadata v{version}")


def controller_id(ctx: RequestContext) -> int:
    """The broker that answers admin calls: this one."""
    return ctx.services.config.node_id


async def _create_missing(
    ctx: RequestContext, request: MetadataRequest, wanted: Sequence[MetadataRequestTopic]
) -> dict[str, ErrorCode]:
    """Create what may be created; the codes to answer for names that could not be."""
    catalog = ctx.services.catalog
    if not request.allow_auto_topic_creation:
        return {}
    missing = {topic.name for topic in wanted if topic.name is not None} - catalog.image.topics.keys()
    if not missing:
        return {}
    try:
        known = await known_groups(ctx, missing)
    except KafkaError as error:
        return dict.fromkeys(missing, error.code)
    if not catalog.broker_config.auto_create_topics_enable:
        missing = {name for name in missing if _is_for_failures(ctx, name, known)}
    results = await ctx.services.topics.auto_create(sorted(missing), known_groups=known)
    return {name: error.code for name, error in results.items() if error is not None}


def _is_for_failures(ctx: RequestContext, name: str, known: Collection[str]) -> bool:
    """Whether this is a retry or dead-letter topic's name, which is made whatever the settings say."""
    try:
        return ctx.services.catalog.retrying.role_for(name, known) is not None
    except KafkaError:
        return True  # and refused when it is made, with these words


def _found(
    ctx: RequestContext,
    request: MetadataRequest,
    image: Image,
    wanted: Sequence[MetadataRequestTopic],
    codes: dict[str, ErrorCode],
) -> Iterator[MetadataResponseTopic]:
    seen: set[str | bytes] = set()
    for asked in wanted:
        key = asked.topic_id if asked.name is None else asked.name
        if key in seen:
            continue
        seen.add(key)
        if asked.name is None:
            topic = image.topic_by_id(asked.topic_id)
        else:
            topic = image.topics.get(asked.name) or _just_made(ctx, asked.name)
        if topic is not None and not topic.hidden:
            yield _described(ctx, request, image, topic)
        elif asked.name is None:
            code = ErrorCode.UNKNOWN_TOPIC_ID if asked.topic_id != ZERO_UUID else ErrorCode.INVALID_REQUEST
            yield _refused(None, asked.topic_id, code)
        else:
            yield _refused(asked.name, ZERO_UUID, codes.get(asked.name) or _why_missing(asked.name))


def _just_made(ctx: RequestContext, name: str) -> Topic | None:
    """The retry or dead-letter topic of that name, which was not there when the request came."""
    topic = ctx.services.catalog.image.topics.get(name)
    return None if topic is None or role_of(topic) is None else topic


def _why_missing(name: str) -> ErrorCode:
    try:
        names.check(name)
        names.check_not_reserved(name)
    except KafkaError as error:
        return error.code
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def _refused(name: str | None, topic_id: bytes, code: ErrorCode) -> MetadataResponseTopic:
    return MetadataResponseTopic(error_code=code, name=name, topic_id=topic_id, is_internal=name in INTERNAL)


def _described(
    ctx: RequestContext, request: MetadataRequest, image: Image, topic: Topic
) -> MetadataResponseTopic:
    answer = MetadataResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.internal,
        partitions=[_partition(ctx, image, partition) for partition in topic.partitions],
    )
    if request.include_topic_authorized_operations:
        answer.topic_authorized_operations = TOPIC_OPERATIONS
    return answer


def _partition(ctx: RequestContext, image: Image, partition: PartitionState) -> MetadataResponsePartition:
    code, leader = ErrorCode.NONE, partition.leader
    broker = image.brokers.get(leader)
    if broker is None:
        code = ErrorCode.LEADER_NOT_AVAILABLE
    elif broker.endpoint(ctx.listener) is None:
        code = ErrorCode.LISTENER_NOT_FOUND if ctx.version >= 6 else ErrorCode.LEADER_NOT_AVAILABLE
        leader = -1
    return MetadataResponsePartition(
        error_code=code,
        partition_index=partition.index,
        leader_id=leader,
        leader_epoch=partition.leader_epoch,
        replica_nodes=list(partition.replicas),
        isr_nodes=list(partition.isr),
        offline_replicas=[node for node in partition.replicas if node not in image.brokers],
    )


def _brokers(image: Image, listener: str) -> Iterator[MetadataResponseBroker]:
    for broker in image.brokers.values():
        if (endpoint := broker.endpoint(listener)) is not None:
            yield MetadataResponseBroker(
                node_id=broker.node_id, host=endpoint.host, port=endpoint.port, rack=broker.rack
            )
