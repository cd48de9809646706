"""Nacks for which topics cannot be made: refused if that is for good, to be tried again if it is not."""

from __future__ import annotations

import pytest

from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.topics import NewTopic, TopicAdmin
from pykbroker.config import BrokerConfig
from pykbroker.delivery.commits import CommitChecks
from pykbroker.delivery.topics import DeliveryTopics, Ensured
from pykbroker.errors import ErrorCode, KafkaError


@pytest.mark.parametrize(
    ("failure", "answer"),
    [
        (ErrorCode.INVALID_TOPIC_EXCEPTION, ErrorCode.INVALID_REQUEST),
        (ErrorCode.INVALID_CONFIG, ErrorCode.INVALID_REQUEST),
        (ErrorCode.LEADER_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS),
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.COORDINATOR_NOT_AVAILABLE),
    ],
)
async def test_topics_that_cannot_be_made(
    failure: ErrorCode, answer: ErrorCode, caplog: pytest.LogCaptureFixture
) -> None:
    """Groups that are still loaded and a full disk pass: no client may take that for its own mistake."""

    class Failing(DeliveryTopics):
        async def ensure(self, origin: str, group: str) -> Ensured:
            raise KafkaError(failure, "not this time")

    async def groups() -> list[str]:
        return []

    catalog = MemoryCatalog(BrokerConfig.load())
    admin = TopicAdmin(catalog)
    overrides = [("pykbroker.retry.policy", "fixed")]
    await admin.create([NewTopic(name="orders", partitions=1, overrides=overrides)])
    checks = CommitChecks(catalog, Failing(catalog, admin, groups))
    topic = catalog.image.topics["orders"]
    assert await checks.check("billing", topic, 0, 1, '{"nack": [0]}') == answer
    assert "not this time" in caplog.text
    assert await checks.check("billing", topic, 0, 1, "") == ErrorCode.NONE


async def nobody() -> list[str]:
    return []


@pytest.mark.parametrize(
    ("offset", "metadata", "answer", "said"),
    [
        (5, '{"nack": [5]}', ErrorCode.INVALID_REQUEST, "committed=5 nacked=5; commit the offset behind"),
        (6, "{'nack': [5]}", ErrorCode.NONE, "it is no JSON"),
        (6, '{"nack": [5', ErrorCode.NONE, "it is no JSON"),
    ],
)
async def test_the_log_says_what_was_meant(
    offset: int, metadata: str, answer: ErrorCode, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = MemoryCatalog(BrokerConfig.load())
    admin = TopicAdmin(catalog)
    await admin.create(
        [NewTopic(name="orders", partitions=1, overrides=[("pykbroker.retry.policy", "fixed")])]
    )
    checks = CommitChecks(catalog, DeliveryTopics(catalog, admin, nobody))
    topic = catalog.image.topics["orders"]
    assert await checks.check("billing", topic, 0, offset, metadata) == answer
    assert said in caplog.text
    if answer is ErrorCode.NONE:  # it comes with each commit: one line will do for a while
        await checks.check("billing", topic, 0, offset, metadata)
        assert len(caplog.messages) == 1


async def test_nacks_without_a_policy_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    catalog = MemoryCatalog(BrokerConfig.load())
    admin = TopicAdmin(catalog)
    await admin.create([NewTopic(name="orders", partitions=1)])
    checks = CommitChecks(catalog, DeliveryTopics(catalog, admin, nobody))
    for offset in (1, 2):
        metadata = f'{{"nack": [{offset - 1}]}}'
        code = await checks.check("billing", catalog.image.topics["orders"], 0, offset, metadata)
        assert code == ErrorCode.NONE
    (line,) = caplog.messages
    assert "group=billing topic=orders: no policy holds there" in line
