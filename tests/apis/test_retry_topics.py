"""What clients that ask for topics, or join groups, see of retry and dead-letter topics."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykbroker.apis import _delivery, create_topics, describe_configs, join_group, metadata
from pykbroker.apis._registry import RequestContext, Services
from pykbroker.catalog.alter import Alteration, Step, alter
from pykbroker.catalog.retrying import Role, RoleKind, role_of
from pykbroker.catalog.topics import NewTopic
from pykbroker.delivery.topics import DeliveryTopics
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from pykbroker.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from pykbroker.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.apis.admin_support import context, served
from tests.apis.group_support import members

FIXED = [("pykbroker.retry.policy", "fixed")]


class Groups:
    """The groups that are known, or why they are not."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.refusal: KafkaError | None = None

    async def __call__(self) -> list[str]:
        if self.refusal is not None:
            raise self.refusal
        return self.ids


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Groups:
    """The groups that the handlers' DeliveryTopics knows."""
    found = Groups()
    made: dict[int, DeliveryTopics] = {}

    def topics_of(ctx: RequestContext) -> DeliveryTopics:
        services: Services = ctx.services
        return made.setdefault(id(services), DeliveryTopics(services.catalog, services.topics, found))

    monkeypatch.setattr(_delivery, "delivery_topics", topics_of)
    monkeypatch.setattr(join_group, "delivery_topics", topics_of)
    return found


async def asked(ctx: RequestContext, *names: str, create: bool = True) -> dict[str | None, int]:
    topics = [MetadataRequestTopic(name=name) for name in names]
    request = MetadataRequest(topics=topics, allow_auto_topic_creation=create)
    return {topic.name: topic.error_code for topic in (await served(metadata.handle, ctx, request)).topics}


async def make(ctx: RequestContext, name: str, partitions: int = 1) -> None:
    (made,) = await ctx.services.topics.create([NewTopic(name=name, partitions=partitions, overrides=FIXED)])
    assert not isinstance(made, KafkaError)


async def test_asking_for_a_retry_topic_makes_it_whatever_the_settings_say(groups: Groups) -> None:
    ctx = context(12, None, "auto.create.topics.enable=false")
    await make(ctx, "orders", 3)
    groups.ids = ["bil/ling"]
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    name = "orders.bil_ling.retry"
    assert await asked(ctx, name, create=False) == {name: unknown}
    assert "orders.bil_ling.retry" not in ctx.services.catalog.image.topics
    await asked(ctx, name, "other")
    assert await asked(ctx, name, "orders.bil_ling.dlq", "other") == {
        name: 0,
        "orders.bil_ling.dlq": 0,
        "other": unknown,
    }
    topics = ctx.services.catalog.image.topics
    assert role_of(topics[name]) == Role(RoleKind.RETRY, "orders", "bil/ling")
    everything = await served(metadata.handle, ctx, MetadataRequest(topics=None))
    assert {topic.name for topic in everything.topics} == {"orders", name, "orders.bil_ling.dlq"}


async def test_why_a_retry_topic_cannot_be_made(groups: Groups) -> None:
    for sets in ((), ("auto.create.topics.enable=false",)):
        ctx = context(12, None, *sets)
        await make(ctx, "orders")
        groups.ids, groups.refusal = ["a b", "a_b"], None
        assert await asked(ctx, "orders.a_b.retry") == {"orders.a_b.retry": ErrorCode.INVALID_TOPIC_EXCEPTION}
        groups.refusal = KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        assert await asked(ctx, "orders.a_b.retry") == {"orders.a_b.retry": ErrorCode.LEADER_NOT_AVAILABLE}
        assert len(ctx.services.catalog.image.topics) == 1


async def test_creating_a_retry_topic(groups: Groups) -> None:
    ctx = context(7)
    await make(ctx, "orders", 3)

    async def create(name: str, **configs: str) -> tuple[int, str | None, int]:
        topic = CreatableTopic(
            name=name,
            num_partitions=1,
            replication_factor=1,
            configs=[CreatableTopicConfig(name=k.replace("_", "."), value=v) for k, v in configs.items()],
        )
        answer = await served(create_topics.handle, ctx, CreateTopicsRequest(topics=[topic]))
        (result,) = answer.topics
        return result.error_code, result.error_message, result.num_partitions

    groups.ids = ["a b", "a_b"]
    code, message, _ = await create("orders.a_b.dlq")
    assert code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert message is not None
    assert "pykbroker.dead.letter.topic" in message
    groups.ids = ["a b"]
    code, message, _ = await create("orders.a_b.dlq", pykbroker_role="dlq:orders:a_b")
    assert (code, "pykbroker.role" in str(message)) == (ErrorCode.INVALID_CONFIG, True)
    assert await create("orders.a_b.dlq") == (0, None, 3)
    assert (await create("orders.a_b.retry"))[0] == ErrorCode.TOPIC_ALREADY_EXISTS
    resource = DescribeConfigsResource(
        resource_type=2, resource_name="orders.a_b.retry", configuration_keys=None
    )
    (result,) = (
        await served(describe_configs.handle, ctx_of(ctx, 4), DescribeConfigsRequest(resources=[resource]))
    ).results
    (role,) = (entry for entry in result.configs if entry.name == "pykbroker.role")
    assert (role.value, role.read_only) == ("retry:orders:a b", True)


def ctx_of(ctx: RequestContext, version: int) -> RequestContext:
    """The same services, asked in another version."""
    other = context(version)
    other.services = ctx.services
    return other


@pytest.mark.usefixtures("groups")
async def test_a_group_that_joins_finds_its_topics(tmp_path: Path) -> None:
    async with members(tmp_path) as clients:
        catalog = clients.home.services.catalog
        await clients.join(version=3)
        assert set(catalog.image.topics) == {"t", "__consumer_offsets"}
        await alter_topic(clients.home.services, "t")
        await clients.join(version=3, group="h")
        assert {"t.h.retry", "t.h.dlq"} < set(catalog.image.topics)
        assert "t.g.retry" not in catalog.image.topics


async def alter_topic(services: Services, name: str) -> None:
    steps = [Step(setting, 0, value) for setting, value in FIXED]
    assert await alter(services.catalog, [Alteration(resource_type=2, name=name, steps=steps)]) == [None]
