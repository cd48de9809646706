"""The validators, by their kit and on a broker."""

from __future__ import annotations

import json
from collections.abc import Iterable

import jsonschema
import pykbroker_validators
import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import InvalidRecordError, KafkaError

from pykbroker import Component, RecordData, Validator
from pykbroker.testing import BrokerThread, KitFailure, check_plugin, check_validator

SCHEMA = json.dumps({"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}})


def component(name: str) -> Component[Validator]:
    found: Iterable[Component[Validator]] = pykbroker_validators.pykbroker_register_validators()
    return next(each for each in found if each.name == name)


def test_conformance() -> None:
    # A broker imports it for the first topic that names it; on a slow machine that alone is a failure here.
    assert jsonschema is not None
    check_plugin(pykbroker_validators, settings={"json-schema": {"schema": SCHEMA}})


def test_require_key() -> None:
    check_validator(
        component("require-key"),
        accepts=[RecordData(b"k", None), RecordData(b"", b"v")],
        refuses=[RecordData(None, b"v")],
    )
    check_validator(component("require-key"), settings={"bytes.min": 1}, refuses=[RecordData(b"", b"v")])


def test_require_value() -> None:
    check_validator(
        component("require-value"),
        accepts=[RecordData(None, b""), RecordData(b"k", b"v")],
        refuses=[RecordData(b"k", None)],
    )
    check_validator(component("require-value"), settings={"bytes.min": 2}, refuses=[RecordData(None, b"1")])


def test_json_schema() -> None:
    check_validator(
        component("json-schema"),
        settings={"schema": SCHEMA},
        accepts=[RecordData(None, b'{"id": 1}'), RecordData(b"k", None)],
        refuses=[RecordData(None, b'{"id": "1"}'), RecordData(None, b"{}"), RecordData(None, b"{")],
    )
    check_validator(
        component("json-schema"), settings={"tombstones": False}, refuses=[RecordData(b"k", None)]
    )


@pytest.mark.parametrize("schema", ["{", '{"type": "nothing"}', "[]"])
def test_a_schema_that_is_none(schema: str) -> None:
    with pytest.raises(KitFailure, match="is not a JSON schema"):
        check_validator(component("json-schema"), settings={"schema": schema})


def test_a_schema_fetches_nothing() -> None:
    schema = json.dumps({"$ref": "http://127.0.0.1:9/schema.json"})
    with pytest.raises(KitFailure, match="Unresolvable"):
        check_validator(
            component("json-schema"), settings={"schema": schema}, accepts=[RecordData(None, b"1")]
        )


def test_a_client_is_told(pykbroker: BrokerThread) -> None:
    admin = KafkaAdminClient(bootstrap_servers=pykbroker.bootstrap)
    settings = {"pykbroker.validators": "json-schema", "pykbroker.plugin.json-schema.schema": SCHEMA}
    admin.create_topics([NewTopic("orders", 1, 1, topic_configs=settings)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=pykbroker.bootstrap, retries=0)
    assert producer.send("orders", b'{"id": 1}').get(10).offset == 0
    with pytest.raises(KafkaError) as refused:
        producer.send("orders", b"{}").get(10)
    assert isinstance(refused.value, InvalidRecordError)
    assert "'id' is a required property" in str(refused.value)
    producer.close()
