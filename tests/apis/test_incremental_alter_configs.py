"""IncrementalAlterConfigs on topics, brokers and groups."""

from __future__ import annotations

import pytest

from pykbroker.apis._registry import RequestContext
from pykbroker.apis.incremental_alter_configs import failed, handle
from pykbroker.catalog.image import GROUP
from pykbroker.catalog.topics import NewTopic
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from tests.apis.admin_support import context, served

SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3
Step = tuple[str, int, str | None]


def resource(kind: int, name: str, *steps: Step) -> AlterConfigsResource:
    configs = [AlterableConfig(name=n, config_operation=o, value=v) for n, o, v in steps]
    return AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)


async def alter(ctx: RequestContext, *resources: AlterConfigsResource, validate: bool = False) -> list[int]:
    request = IncrementalAlterConfigsRequest(resources=list(resources), validate_only=validate)
    response = await served(handle, ctx, request)
    for asked, answer in zip(resources, response.responses, strict=True):
        assert (answer.resource_type, answer.resource_name) == (asked.resource_type, asked.resource_name)
        assert bool(answer.error_message) == bool(answer.error_code)
    return [answer.error_code for answer in response.responses]


async def ready() -> RequestContext:
    ctx = context(1)
    await ctx.services.topics.create([NewTopic(name="a")])
    return ctx


async def test_the_four_operations_on_a_topic() -> None:
    ctx = await ready()
    catalog = ctx.services.catalog
    story: list[tuple[Step, dict[str, str]]] = [
        (("retention.ms", SET, "5"), {"retention.ms": "5"}),
        (("cleanup.policy", APPEND, "compact"), {"retention.ms": "5", "cleanup.policy": "delete,compact"}),
        (("cleanup.policy", APPEND, "compact"), {"retention.ms": "5", "cleanup.policy": "delete,compact"}),
        (("cleanup.policy", SUBTRACT, "delete"), {"retention.ms": "5", "cleanup.policy": "compact"}),
        (("retention.ms", DELETE, None), {"cleanup.policy": "compact"}),
        (("segment.ms", DELETE, None), {"cleanup.policy": "compact"}),
    ]
    for step, expected in story:
        assert await alter(ctx, resource(2, "a", step)) == [0]
        assert dict(catalog.image.topics["a"].overrides) == expected
    assert catalog.topic_config(catalog.image.topics["a"]).compacted


@pytest.mark.parametrize(
    ("kind", "name", "step", "code"),
    [
        (2, "nope", ("retention.ms", SET, "1"), 3),
        (2, "a", ("retention.ms", APPEND, "1"), 40),
        (2, "a", ("retention.ms", SUBTRACT, "1"), 40),
        (2, "a", ("retention.ms", SET, "x"), 40),
        (2, "a", ("retention.ms", SET, None), 42),
        (2, "a", ("no.such", SET, "1"), 40),
        (2, "a", ("retention.ms", 9, "1"), 42),
        (2, "a", ("max.compaction.lag.ms", SET, "0"), 40),
        (4, "1", ("node.id", SET, "2"), 42),
        (4, "1", ("log.retention.ms", SET, "x"), 42),
        (4, "1", ("no.such", SET, "x"), 42),
        (4, "2", ("log.retention.ms", SET, "1"), 42),
        (4, "x", ("log.retention.ms", SET, "1"), 42),
        (32, "g", ("share.delivery.count.limit", SET, "0"), 40),
        (32, "g", ("no.such", SET, "0"), 40),
        (32, "", ("share.delivery.count.limit", SET, "5"), 42),
        (8, "1", ("root", SET, "DEBUG"), 42),
        (99, "x", ("a", SET, "b"), 42),
    ],
)
async def test_refusals(kind: int, name: str, step: Step, code: int) -> None:
    ctx = await ready()
    before = ctx.services.catalog.image
    assert await alter(ctx, resource(kind, name, step)) == [code]
    assert ctx.services.catalog.image is before


async def test_one_bad_step_spoils_its_resource_only() -> None:
    ctx = await ready()
    good, bad = ("retention.ms", SET, "5"), ("segment.ms", SET, "x")
    group = resource(32, "g", ("consumer.session.timeout.ms", SET, "46000"))
    assert await alter(ctx, resource(2, "a", good, bad), group) == [40, 0]
    assert ctx.services.catalog.image.topics["a"].overrides == {}
    settings = ctx.services.catalog.image.settings_of(GROUP, "g")
    assert dict(settings.values) == {"consumer.session.timeout.ms": "46000"}


async def test_repetitions_are_refused() -> None:
    ctx = await ready()
    step = ("retention.ms", SET, "5")
    assert await alter(ctx, resource(2, "a", step, step)) == [42]
    assert await alter(ctx, resource(2, "a", step), resource(2, "a", step)) == [42, 42]
    assert ctx.services.catalog.image.topics["a"].overrides == {}


async def test_broker_settings_are_defaults_of_topics_at_once() -> None:
    ctx = await ready()
    catalog = ctx.services.catalog
    topic = catalog.image.topics["a"]
    told: list[bool] = []
    catalog.subscribe(lambda delta: told.append(delta.broker_settings))
    assert await alter(ctx, resource(4, "", ("log.segment.bytes", SET, "100"))) == [0]
    assert catalog.topic_config(topic).segment_bytes == 100
    assert await alter(ctx, resource(4, "1", ("log.segment.bytes", SET, "200"))) == [0]
    assert catalog.topic_config(topic).segment_bytes == 200
    assert await alter(ctx, resource(4, "1", ("log.segment.bytes", DELETE, None))) == [0]
    assert catalog.topic_config(topic).segment_bytes == 100
    assert told == [True, True, True]


async def test_validate_only_alters_nothing() -> None:
    ctx = await ready()
    assert await alter(ctx, resource(2, "a", ("retention.ms", SET, "5")), validate=True) == [0]
    assert ctx.services.catalog.image.topics["a"].overrides == {}


async def test_failed_names_every_resource() -> None:
    request = IncrementalAlterConfigsRequest(resources=[resource(2, "a")])
    (answer,) = failed(context(1), request, ErrorCode.UNKNOWN_SERVER_ERROR).responses
    assert (answer.error_code, answer.resource_name) == (-1, "a")
