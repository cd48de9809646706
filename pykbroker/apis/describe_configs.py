"""DescribeConfigs, versions 1 to 4: settings of topics (2), brokers (4) and groups (32).

v1 sources and synonyms (KIP-226); v3 types and documentation (KIP-569).  Defaults are always listed:
clients read, modify and write.  The bindings of an exchange are one setting, and in pages where that
would be too long (see ``_binding_pages``); likewise which dead letters of a topic are settled, for those
who name that setting (see :mod:`pykbroker.delivery.letters`), which are on their way back
(:mod:`pykbroker.delivery.returning`), what waits to get into a topic (:mod:`pykbroker.delivery.waiting`),
and which nacks of a group stand aside (:mod:`pykbroker.delivery.reports`).  Resource types 8 (loggers) and
16 (client metrics) have no settings here, and answer an empty list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from pykbroker.apis._delivery import flows, following
from pykbroker.apis._registry import RequestContext, api
from pykbroker.catalog import bindings, names
from pykbroker.catalog.alter import check_broker_name
from pykbroker.catalog.exchanges import BINDINGS, described_overrides
from pykbroker.catalog.image import BROKER, GROUP, TOPIC, Image
from pykbroker.config import TopicConfig, settings_of
from pykbroker.config.describe import (
    Entry,
    Source,
    Synonym,
    describe_all_brokers,
    describe_broker,
    describe_group,
    describe_topic,
)
from pykbroker.config.setting import Kind, Setting
from pykbroker.delivery import waiting
from pykbroker.delivery.letters import SETTLED, described
from pykbroker.delivery.reports import ASIDE
from pykbroker.delivery.returning import RETURNING
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)

BROKER_LOGGER, CLIENT_METRICS = 8, 16

_SETTLED = Setting(
    name=SETTLED,
    field="",
    kind=Kind.STRING,
    default="",
    doc="""Which dead letters of this topic are replayed or purged: a JSON object, partition to offsets and
    ranges; {"pages": N} where they are to be read from this name with .0, .1 and so on behind it.""",
)

_WAITING = Setting(
    name=waiting.WAITING,
    field="",
    kind=Kind.STRING,
    default="",
    doc="""What waits to get into this topic, which has retries or delays: a JSON object with how many records
    are waiting, when the next of them is due, how many are stuck because their destination is not there or
    refuses them, and the same by partition; "indexing" while what is there is still being looked at.""",
)


_RETURNING = Setting(
    name=RETURNING,
    field="",
    kind=Kind.STRING,
    default="",
    doc="""Which dead letters of this topic are on their way back: a JSON object with the broker's time, how
    many go to which topic and until when, by partition; how many were ordered and are not begun; how many
    have come to their time and cannot go where they should, and why.""",
)

_ASIDE = Setting(
    name=ASIDE,
    field="",
    kind=Kind.STRING,
    default="",
    doc="""What nacks of this group ask that cannot be done now, and is tried again: a JSON object with
    topics, partitions, how many records, and why.""",
)


def failed(ctx: RequestContext, request: DescribeConfigsRequest, code: ErrorCode) -> DescribeConfigsResponse:
    """Every resource asked for carries ``code``."""
    return DescribeConfigsResponse(results=[_refused(each, KafkaError(code)) for each in request.resources])


@api(DescribeConfigsRequest, DescribeConfigsResponse, failed=failed)
async def handle(ctx: RequestContext, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
    return DescribeConfigsResponse(results=[await _result(ctx, request, each) for each in request.resources])


async def _result(
    ctx: RequestContext, request: DescribeConfigsRequest, resource: DescribeConfigsResource
) -> DescribeConfigsResult:
    try:
        entries = [*_entries(ctx, resource)]
        for seen in (_settled, _waiting, _returning, _aside):
            entries += await seen(ctx, resource)
    except KafkaError as error:
        return _refused(resource, error)
    wanted = resource.configuration_keys
    return DescribeConfigsResult(
        error_message=None,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=[_described(request, entry) for entry in entries if not wanted or entry.name in wanted],
    )


def _entries(ctx: RequestContext, resource: DescribeConfigsResource) -> Iterable[Entry]:
    catalog, name = ctx.services.catalog, resource.resource_name
    config = catalog.broker_config
    match resource.resource_type:
        case code if code == TOPIC:
            names.check(name)
            topic = catalog.image.topics.get(name)
            if topic is None or topic.hidden:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")
            shown = describe_topic(config, described_overrides(catalog.image, topic))
            return [*shown, *_binding_pages(catalog.image, name, resource.configuration_keys or ())]
        case code if code == BROKER:
            check_broker_name(name, str(config.node_id))
            return (
                describe_broker(config)
                if name
                else describe_all_brokers(config.dynamic_default, config.extensions)
            )
        case code if code == GROUP:
            _check_named(name, "Group name")
            return describe_group(catalog.image.settings_of(GROUP, name).values, config.extensions)
        case code if code == BROKER_LOGGER:
            _check_named(name, "Broker id")
            check_broker_name(name, str(config.node_id))
            return ()
        case code if code == CLIENT_METRICS:
            _check_named(name, "Client metrics subscription name")
            return ()
        case code:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {code}")


def _binding_pages(image: Image, topic: str, wanted: Iterable[str]) -> Iterator[Entry]:
    """The settings ``pykbroker.exchange.bindings.0`` and so on, which are there for those who name them:
    together all bindings of an exchange, also where the one setting has only their number."""
    asked = {key for key in wanted if key.startswith(f"{BINDINGS}.")}
    exchange = image.exchange(topic)
    if not asked or exchange is None:
        return
    row = settings_of(TopicConfig)[BINDINGS]
    for number, page in enumerate(bindings.pages(exchange.bindings)):
        name = f"{BINDINGS}.{number}"
        if name in asked:
            synonym = Synonym(name, page, Source.TOPIC)
            yield Entry(
                name=name,
                value=page,
                read_only=True,
                source=Source.TOPIC,
                synonyms=(synonym,),
                setting=dataclasses.replace(row, name=name),
            )


async def _settled(ctx: RequestContext, resource: DescribeConfigsResource) -> list[Entry]:
    """Which dead letters of a topic are settled, for those who ask by name."""
    wanted = [key for key in resource.configuration_keys or () if key.startswith(SETTLED)]
    topic = ctx.services.catalog.image.topics.get(resource.resource_name)
    follows = following(ctx)
    if not wanted or resource.resource_type != TOPIC or topic is None or follows is None:
        return []
    found = described(await follows.inquiries.settled(topic))
    return [_seen(_SETTLED, name, found[name]) for name in wanted if name in found]


async def _waiting(ctx: RequestContext, resource: DescribeConfigsResource) -> list[Entry]:
    """What waits to get into a topic, for those who ask by name."""
    if resource.resource_type != TOPIC or waiting.WAITING not in (resource.configuration_keys or ()):
        return []
    topic = ctx.services.catalog.image.topics.get(resource.resource_name)
    keeper = flows(ctx)
    found = None if topic is None or keeper is None else await keeper.waiting(topic)
    return [] if found is None else [_seen(_WAITING, waiting.WAITING, waiting.described(found))]


async def _returning(ctx: RequestContext, resource: DescribeConfigsResource) -> list[Entry]:
    """Which letters of a topic are on their way back, for those who ask by name."""
    if resource.resource_type != TOPIC or RETURNING not in (resource.configuration_keys or ()):
        return []
    topic = ctx.services.catalog.image.topics.get(resource.resource_name)
    keeper, follows = flows(ctx), following(ctx)
    if topic is None or keeper is None or follows is None:
        return []
    return [_seen(_RETURNING, RETURNING, await follows.inquiries.returning(topic, keeper.stuck_letters()))]


async def _aside(ctx: RequestContext, resource: DescribeConfigsResource) -> list[Entry]:
    """What nacks of a group ask that is not done, for those who ask by name."""
    follows = following(ctx)
    if resource.resource_type != GROUP or ASIDE not in (resource.configuration_keys or ()) or not follows:
        return []
    found = await follows.inquiries.aside(resource.resource_name)
    return [] if found is None else [_seen(_ASIDE, ASIDE, found)]


def _seen(row: Setting, name: str, value: str) -> Entry:
    """What is so, rather than set."""
    return Entry(
        name=name,
        value=value,
        read_only=True,
        source=Source.TOPIC,
        synonyms=(Synonym(name, value, Source.TOPIC),),
        setting=dataclasses.replace(row, name=name),
    )


def _check_named(name: str, what: str) -> None:
    if not name:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"{what} must not be empty")


def _described(request: DescribeConfigsRequest, entry: Entry) -> DescribeConfigsResourceResult:
    synonyms = entry.synonyms if request.include_synonyms else ()
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        synonyms=[DescribeConfigsSynonym(name=s.name, value=s.value, source=s.source) for s in synonyms],
        config_type=entry.setting.kind.wire,
        documentation=entry.setting.doc if request.include_documentation else None,
    )


def _refused(resource: DescribeConfigsResource, error: KafkaError) -> DescribeConfigsResult:
    return DescribeConfigsResult(
        error_code=error.code,
        error_message=str(error),
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
