"""CreatePartitions: SEMANTICS section 8."""

from __future__ import annotations

import pytest

from pykbroker.apis.create_partitions import failed, handle
from pykbroker.catalog.image import CONSUMER_OFFSETS
from pykbroker.catalog.topics import NewTopic
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from tests.apis.admin_support import context, served


def more(name: str, count: int, *assignments: list[int]) -> CreatePartitionsTopic:
    given = [CreatePartitionsAssignment(broker_ids=each) for each in assignments] or None
    return CreatePartitionsTopic(name=name, count=count, assignments=given)


async def grow(topic: CreatePartitionsTopic, *, validate_only: bool = False) -> tuple[int, int]:
    """The error code, and how many partitions "a" has afterwards (it had two)."""
    ctx = context(3)
    await ctx.services.topics.create([NewTopic(name="a", partitions=2)])
    await ctx.services.topics.ensure_internal(CONSUMER_OFFSETS)
    response = await served(handle, ctx, CreatePartitionsRequest(topics=[topic], validate_only=validate_only))
    (result,) = response.results
    assert result.name == topic.name
    assert bool(result.error_message) == bool(result.error_code)
    return result.error_code, len(ctx.services.catalog.image.topics["a"].partitions)


async def test_growth() -> None:
    assert await grow(more("a", 5)) == (0, 5)
    assert await grow(more("a", 3, [1])) == (0, 3)
    assert await grow(more("a", 5), validate_only=True) == (0, 2)


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (more("a", 2), 37),
        (more("a", 1), 37),
        (more("a", 0), 37),
        (more("a", -1), 37),
        (more("b", 2), 3),
        (more("a", 4, [1]), 39),
        (more("a", 3, [9]), 39),
        (more("a", 10_003), 44),
        (more(CONSUMER_OFFSETS, 60), 17),
    ],
)
async def test_refusals(topic: CreatePartitionsTopic, code: int) -> None:
    assert await grow(topic) == (code, 2)


async def test_a_name_given_twice_is_refused_once() -> None:
    request = CreatePartitionsRequest(topics=[more("a", 2), more("a", 3)])
    response = await served(handle, context(3), request)
    assert [(r.name, r.error_code) for r in response.results] == [("a", 42)]


async def test_failed_names_every_topic() -> None:
    request = CreatePartitionsRequest(topics=[more("a", 2)])
    response = failed(context(3), request, ErrorCode.UNKNOWN_SERVER_ERROR)
    assert [(r.name, r.error_code) for r in response.results] == [("a", -1)]
