"""Interceptors that do harm: nothing of the batch is stored, and what they may change is bounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest

from pykbroker import Component, ErrorCode, InterceptContext, RecordData, RecordError, ValidationContext
from pykbroker.records.compression import Codec
from tests.containment import plugins
from tests.containment.talk import Talk

Harmed = Callable[..., Talk]
NAMED = {"pykbroker.interceptors": "harm"}


@pytest.mark.parametrize("harm", [plugins.raising, plugins.raising_later, plugins.ending])
def test_raising(harmed: Harmed, caplog: pytest.LogCaptureFixture, harm: plugins.Intercept) -> None:
    talk = harmed(plugins.interceptor(harm))
    talk.create("orders", NAMED)
    answer = talk.produce("orders", b"v")
    assert answer.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert "plugin harmful failed in interceptor harm" in (answer.error_message or "")
    assert talk.values("orders") == []
    assert "plugin=harmful in=interceptor harm topic=orders" in caplog.text


@pytest.mark.parametrize("what", plugins.NONSENSE_RECORDS)
def test_nonsense(harmed: Harmed, caplog: pytest.LogCaptureFixture, what: str) -> None:
    talk = harmed(plugins.interceptor(lambda ctx: plugins.NONSENSE_RECORDS[what]))
    talk.create("orders", NAMED)
    assert talk.produce("orders", b"v", b"w").error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert talk.values("orders") == []
    assert "plugin=harmful in=interceptor harm" in caplog.text


def test_growing_over_the_limit(harmed: Harmed) -> None:
    talk = harmed(plugins.interceptor(lambda ctx: [r._replace(value=b"x" * 2000) for r in ctx.records]))
    talk.create("orders", {**NAMED, "max.message.bytes": "1000"})
    assert talk.produce("orders", b"v").error_code == ErrorCode.MESSAGE_TOO_LARGE
    assert talk.values("orders") == []


def test_keys_taken_away_from_a_compacted_topic(harmed: Harmed) -> None:
    talk = harmed(plugins.interceptor(lambda ctx: [r._replace(key=None) for r in ctx.records]))
    talk.create("orders", {**NAMED, "cleanup.policy": "compact"})
    assert talk.produce("orders", b"v").error_code == ErrorCode.INVALID_RECORD
    assert talk.values("orders") == []


def test_offsets_cannot_be_changed(harmed: Harmed) -> None:
    talk = harmed(plugins.interceptor(lambda ctx: [r._replace(offset_delta=7) for r in ctx.records]))
    talk.create("orders", NAMED)
    assert talk.produce("orders", b"v", b"w").base_offset == 0
    assert [record.offset for _, record in talk.batches("orders")] == [0, 1]


@pytest.mark.parametrize("codec", list(Codec))
def test_what_stays_when_records_change(harmed: Harmed, codec: Codec) -> None:
    def upper(ctx: InterceptContext) -> Sequence[RecordData]:
        return [r._replace(value=(r.value or b"").upper()) for r in ctx.records]

    talk = harmed(plugins.interceptor(upper))
    talk.create("orders", NAMED)
    for round_ in range(7):
        answer = talk.produce(
            "orders", b"a", b"b", codec=codec, producer_id=9, producer_epoch=1, base_sequence=2 * round_
        )
        assert answer.base_offset == 2 * round_
    found = talk.batches("orders")
    assert [record.value for _, record in found] == [b"A", b"B"] * 7
    header = found[-1][0]
    assert (header.codec, header.producer_id, header.producer_epoch, header.base_sequence) == (
        codec,
        9,
        1,
        12,
    )
    assert found[0][1].timestamp == 1000
    out_of_order = talk.produce("orders", b"a", producer_id=9, producer_epoch=1, base_sequence=99)
    assert out_of_order.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_large_batch_is_changed_off_the_loop(harmed: Harmed) -> None:
    talk = harmed(plugins.interceptor(lambda ctx: [r._replace(key=b"k") for r in ctx.records]))
    talk.create("orders", NAMED)
    assert talk.produce("orders", *[b"x" * 1000] * 500).error_code == 0
    assert {record.key for _, record in talk.batches("orders")} == {b"k"}


def test_validators_see_what_will_be_stored(harmed: Harmed) -> None:
    seen: list[bytes | None] = []

    def check(ctx: ValidationContext) -> Sequence[RecordError]:
        seen.extend(record.value for record in ctx.batch.records)
        return ()

    talk = harmed(
        plugins.interceptor(lambda ctx: [r._replace(value=b"changed") for r in ctx.records]),
        plugins.validator(check, "look", "looking"),
    )
    talk.create("orders", {**NAMED, "pykbroker.validators": "look"})
    talk.produce("orders", b"v")
    assert seen == [b"changed"]
    assert talk.values("orders") == [b"changed"]


def test_in_the_order_in_which_the_topic_names_them(harmed: Harmed) -> None:
    def adding(letter: bytes) -> object:
        def intercept(ctx: InterceptContext) -> Sequence[RecordData]:
            return [r._replace(value=(r.value or b"") + letter) for r in ctx.records]

        name = letter.decode()
        component = Component(name, lambda build: SimpleNamespace(intercept=intercept))
        return plugins.plugin(f"plugin-{name}", pykbroker_register_interceptors=lambda: [component])

    talk = harmed(adding(b"a"), adding(b"b"))
    talk.create("orders", {"pykbroker.interceptors": "b,a"})
    talk.produce("orders", b"")
    assert talk.values("orders") == [b"ba"]


def test_log_append_time_stays_the_brokers(harmed: Harmed) -> None:
    talk = harmed(plugins.interceptor(lambda ctx: [r._replace(timestamp_ms=5) for r in ctx.records]))
    talk.create("orders", {**NAMED, "message.timestamp.type": "LogAppendTime"})
    answer = talk.produce("orders", b"v")
    assert answer.log_append_time_ms > 1000
    assert talk.batches("orders")[0][1].timestamp == answer.log_append_time_ms
