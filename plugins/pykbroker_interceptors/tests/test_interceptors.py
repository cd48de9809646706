"""The interceptors, by their kit and on a broker."""

from __future__ import annotations

from collections.abc import Iterable

import pykbroker_interceptors
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from pykbroker import Component, Interceptor, RecordData
from pykbroker.testing import BrokerThread, KitFailure, check_interceptor, check_plugin


def component(name: str) -> Component[Interceptor]:
    found: Iterable[Component[Interceptor]] = pykbroker_interceptors.pykbroker_register_interceptors()
    return next(each for each in found if each.name == name)


def test_conformance() -> None:
    check_plugin(
        pykbroker_interceptors,
        settings={"add-header": {"name": "via", "value": "{topic}"}, "redact-field": {"fields": ["id"]}},
    )


def test_add_header() -> None:
    settings = {"name": "via", "value": "{client_id} {topic}/{partition}"}
    before = RecordData(b"k", b"v", headers=(("a", None), ("via", b"me")))
    added = ("via", b"kit kit-topic/0")
    check_interceptor(
        component("add-header"),
        settings=settings,
        turns=[(before, before._replace(headers=(("a", None), added)))],
    )
    check_interceptor(
        component("add-header"),
        settings={**settings, "replace": False},
        turns=[(before, before._replace(headers=(*before.headers, added)))],
    )


def test_braces_of_a_value_reach_into_nothing() -> None:
    check_interceptor(
        component("add-header"),
        settings={"name": "h", "value": "{topic.__class__} {}"},
        turns=[(RecordData(), RecordData(headers=(("h", b"{topic.__class__} {}"),)))],
    )


def test_redact_field() -> None:
    check_interceptor(
        component("redact-field"),
        settings={"fields": ["card.number", "email"]},
        turns=[
            (
                RecordData(b"k", b'{"card":{"number":1},"n":1}'),
                RecordData(b"k", b'{"card":{"number":"***"},"n":1}'),
            ),
            (
                RecordData(None, b'{"card":[{"number":1},{}]}'),
                RecordData(None, b'{"card":[{"number":"***"},{}]}'),
            ),
            (RecordData(None, b'[{"email":"a"}]'), RecordData(None, b'[{"email":"***"}]')),
            (RecordData(None, b'{ "other" : 1.0 }'), RecordData(None, b'{ "other" : 1.0 }')),
            (RecordData(None, b"email=a"), RecordData(None, b"***")),
            (RecordData(None, b'{"email": NaN}'), RecordData(None, b"***")),
            (RecordData(b"k", None), RecordData(b"k", None)),
        ],
    )


def test_what_is_not_json_may_be_kept() -> None:
    check_interceptor(
        component("redact-field"),
        settings={"fields": ["a"], "otherwise": "keep", "mask": "-"},
        turns=[
            (RecordData(None, b"plain"), RecordData(None, b"plain")),
            (RecordData(None, b'{"a":1}'), RecordData(None, b'{"a":"-"}')),
        ],
    )


@pytest.mark.parametrize("name", ["add-header", "redact-field"])
def test_needed_settings(name: str) -> None:
    with pytest.raises(KitFailure, match="needs the setting"):
        check_interceptor(component(name))


def test_consumers_get_what_is_left(pykbroker: BrokerThread) -> None:
    settings = {
        "pykbroker.interceptors": "redact-field,add-header",
        "pykbroker.plugin.redact-field.fields": "secret",
        "pykbroker.plugin.add-header.name": "by",
        "pykbroker.plugin.add-header.value": "{client_id}",
    }
    admin = KafkaAdminClient(bootstrap_servers=pykbroker.bootstrap)
    admin.create_topics([NewTopic("orders", 1, 1, topic_configs=settings)])
    admin.close()
    producer = KafkaProducer(
        bootstrap_servers=pykbroker.bootstrap, client_id="shop", compression_type="gzip", linger_ms=50
    )
    for number in range(10):
        producer.send("orders", b'{"secret":1,"n":%d}' % number, partition=0)
    producer.close()
    consumer = KafkaConsumer(
        "orders",
        bootstrap_servers=pykbroker.bootstrap,
        auto_offset_reset="earliest",
        consumer_timeout_ms=5000,
    )
    got = [next(consumer) for _ in range(10)]
    consumer.close()
    assert [record.value for record in got] == [b'{"secret":"***","n":%d}' % number for number in range(10)]
    assert [record.offset for record in got] == list(range(10))
    assert list(got[0].headers) == [("by", b"shop")]
