"""CreateTopics: SEMANTICS section 8."""

from __future__ import annotations

import pytest

from pykbroker.apis._registry import RequestContext
from pykbroker.apis.create_topics import failed, handle
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreatableTopicResult,
    CreateTopicsRequest,
)
from pykbroker.protocol.schema import ZERO_UUID
from tests.apis.admin_support import context, served


def wanted(
    name: str, partitions: int = -1, replicas: int = -1, /, *, manual: object = (), **configs: str | None
) -> CreatableTopic:
    assert isinstance(manual, tuple)
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        assignments=[CreatableReplicaAssignment(partition_index=i, broker_ids=b) for i, b in manual],
        configs=[CreatableTopicConfig(name=n.replace("_", "."), value=v) for n, v in configs.items()],
    )


async def create(
    ctx: RequestContext, *topics: CreatableTopic, validate_only: bool = False
) -> list[CreatableTopicResult]:
    request = CreateTopicsRequest(topics=list(topics), validate_only=validate_only)
    return (await served(handle, ctx, request)).topics


async def test_defaults_become_real_numbers_and_all_settings() -> None:
    ctx = context(7, None, "num.partitions=4")
    (result,) = await create(ctx, wanted("a", retention_ms="5"))
    topic = ctx.services.catalog.image.topics["a"]
    assert (result.error_code, result.error_message) == (0, None)
    assert (result.num_partitions, result.replication_factor) == (4, 1)
    assert result.topic_id == topic.topic_id != ZERO_UUID
    assert result.configs is not None
    configs = {config.name: config for config in result.configs}
    assert len([name for name in configs if not name.startswith("pykbroker.")]) == 33
    assert (configs["retention.ms"].value, configs["retention.ms"].config_source) == ("5", 1)
    assert (configs["cleanup.policy"].value, configs["cleanup.policy"].config_source) == ("delete", 5)
    assert dict(topic.overrides) == {"retention.ms": "5"}


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (wanted("exists"), 36),
        (wanted("a", 0), 37),
        (wanted("a", -2), 37),
        (wanted("a", 1, 0), 38),
        (wanted("a", 1, -2), 38),
        (wanted("a", 1, 2), 38),
        (wanted("a", unknown_name="1"), 40),
        (wanted("a", retention_ms="soon"), 40),
        (wanted("a", retention_ms=None), 40),
        (wanted("a", cleanup_policy="shred"), 40),
        (wanted("a", 1, -1, manual=((0, [1]),)), 42),
        (wanted("a", -1, 1, manual=((0, [1]),)), 42),
        (wanted("a", manual=((0, [2]),)), 39),
        (wanted("a", manual=((0, [1]), (2, [1]))), 39),
        (wanted("a", manual=((0, [1]), (0, [1]))), 39),
        (wanted("a", manual=((0, []),)), 39),
        (wanted("a", manual=((0, [1, 1]),)), 39),
        (wanted(""), 17),
        (wanted(".."), 17),
        (wanted("x" * 250), 17),
        (wanted("a/b"), 17),
        (wanted("ex_ists"), 17),
        (wanted("__pykbroker_a"), 17),
        (wanted("__consumer_offsets"), 17),
        (wanted("__cluster_metadata"), 29),
        (wanted("a", 10_001), 44),
        (wanted("a", 2147483647), 44),
    ],
)
@pytest.mark.parametrize("validate_only", [True, False])
async def test_refusals(topic: CreatableTopic, code: int, validate_only: bool) -> None:
    ctx = context(7)
    await create(ctx, wanted("exists"), wanted("ex.ists"))
    (result,) = await create(ctx, topic, validate_only=validate_only)
    assert result.error_code == code
    assert result.error_message
    assert set(ctx.services.catalog.image.topics) == {"exists", "ex.ists"}


async def test_one_refusal_does_not_keep_the_others_back() -> None:
    ctx = context(7)
    results = await create(ctx, wanted("a", 0), wanted("b"), wanted("c.d"), wanted("c_d"))
    assert [r.error_code for r in results] == [37, 0, 0, 17]
    assert set(ctx.services.catalog.image.topics) == {"b", "c.d"}


async def test_a_name_given_twice_is_refused_once() -> None:
    ctx = context(7)
    results = await create(ctx, wanted("a"), wanted("b"), wanted("a"))
    assert [(r.name, r.error_code) for r in results] == [("a", 42), ("b", 0)]


async def test_manual_assignment() -> None:
    ctx = context(7)
    (result,) = await create(ctx, wanted("a", manual=((1, [1]), (0, [1]))))
    assert (result.error_code, result.num_partitions, result.replication_factor) == (0, 2, 1)


async def test_validate_only_creates_nothing() -> None:
    ctx = context(7)
    (result,) = await create(ctx, wanted("a", 3), validate_only=True)
    assert (result.error_code, result.num_partitions) == (0, 3)
    assert not ctx.services.catalog.image.topics


async def test_failed_names_every_topic() -> None:
    request = CreateTopicsRequest(topics=[wanted("a"), wanted("b")])
    response = failed(context(7), request, ErrorCode.UNKNOWN_SERVER_ERROR)
    assert [(t.name, t.error_code) for t in response.topics] == [("a", -1), ("b", -1)]
