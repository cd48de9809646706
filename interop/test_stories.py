"""Every story on both brokers, with equal outcomes."""

from typing import Any

import pytest

from interop.conftest import APACHE_KAFKA, Broker
from interop.stories import STORIES, aiokafka_client, confluent, kafka_python, mixed

TOLD_WITH = (kafka_python, confluent, aiokafka_client, mixed)

_on_apache_kafka: dict[str, Any] = {}


def outcome_on_apache_kafka(name: str, bootstrap: str) -> Any:
    """What a story came to on Apache Kafka, told there only once."""
    if name not in _on_apache_kafka:
        _on_apache_kafka[name] = STORIES[name](bootstrap)
    return _on_apache_kafka[name]


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str, broker: Broker, apache_kafka: Broker) -> None:
    """The story runs to its end, and comes to the same as on Apache Kafka."""
    expected = outcome_on_apache_kafka(name, apache_kafka.bootstrap)
    if broker.name != APACHE_KAFKA:
        assert STORIES[name](broker.bootstrap) == expected
