"""Validators that do harm: what client and log see, and that nothing acknowledged is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pytest

from pykbroker import ErrorCode, RecordData, RecordError, ValidationContext
from pykbroker.records.build import encode_batch
from tests.containment import plugins
from tests.containment.talk import Talk
from tests.rawclient import Closed

Harmed = Callable[..., Talk]
NAMED = {"pykbroker.validators": "harm"}


@pytest.mark.parametrize("harm", [plugins.raising, plugins.raising_later, plugins.ending])
def test_raising(harmed: Harmed, caplog: pytest.LogCaptureFixture, harm: plugins.Check) -> None:
    talk = harmed(plugins.validator(harm))
    talk.create("orders", NAMED)
    answer = talk.produce("orders", b"v")
    assert answer.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert answer.error_message is not None
    assert "plugin harmful failed in validator harm" in answer.error_message
    assert talk.values("orders") == []
    (line,) = [r for r in caplog.records if "a plugin failed" in r.message]
    assert "plugin=harmful in=validator harm topic=orders" in line.message
    assert line.exc_info is not None


def test_raising_again_and_again_is_one_line(harmed: Harmed, caplog: pytest.LogCaptureFixture) -> None:
    talk = harmed(plugins.validator(plugins.raising))
    talk.create("orders", NAMED)
    for _ in range(20):
        talk.produce("orders", b"v")
    assert len([r for r in caplog.records if "a plugin failed" in r.message]) == 1


def test_raising_with_acks_0_closes_the_connection(harmed: Harmed) -> None:
    talk = harmed(plugins.validator(plugins.raising))
    talk.create("orders", NAMED)
    with Talk(talk.bootstrap) as other, pytest.raises(Closed):
        other.send("orders", encode_batch([RecordData(None, b"v")], timestamp_ms=1), acks=0)


@pytest.mark.parametrize("what", plugins.NONSENSE_CHECKS)
def test_nonsense(harmed: Harmed, caplog: pytest.LogCaptureFixture, what: str) -> None:
    talk = harmed(plugins.validator(lambda ctx: plugins.NONSENSE_CHECKS[what]))
    talk.create("orders", NAMED)
    assert talk.produce("orders", b"v").error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert talk.values("orders") == []
    assert "plugin=harmful in=validator harm" in caplog.text


def test_slow(harmed: Harmed, caplog: pytest.LogCaptureFixture) -> None:
    talk = harmed(plugins.validator(plugins.blocking(lambda: "plugin=harmful" in caplog.text)))
    talk.create("orders", NAMED)
    assert talk.produce("orders", b"v").error_code == 0
    assert talk.values("orders") == [b"v"]
    line, *_ = [
        r.message for r in caplog.records if r.levelno >= logging.WARNING and "plugin=harmful" in r.message
    ]
    assert "in=validator harm" in line
    assert "in hold_up" in line


def test_hanging(harmed: Harmed, caplog: pytest.LogCaptureFixture) -> None:
    talk = harmed(plugins.validator(plugins.hanging), timeout_ms=100)
    talk.create("orders", NAMED)
    answer = talk.produce("orders", b"v")
    assert answer.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert "cancelled after 0.1 s" in (answer.error_message or "")
    assert "cancelled after 0.1 s" in caplog.text


def test_others_are_served_while_one_hangs(harmed: Harmed) -> None:
    switch = plugins.Switch()
    talk = harmed(plugins.validator(switch.check))
    talk.create("orders", NAMED)
    with Talk(talk.bootstrap) as other:
        waiting = other.begin("orders", b"v")
        assert switch.asked.wait(30)
        assert talk.create("other") == 0
        assert talk.produce("other", b"meanwhile").error_code == 0
        assert talk.values("orders") == []
        switch.answer.set()
        assert waiting().error_code == 0
    assert talk.values("orders") == [b"v"]


def test_a_topic_deleted_while_one_hangs(harmed: Harmed) -> None:
    switch = plugins.Switch()
    talk = harmed(plugins.validator(switch.check))
    talk.create("orders", NAMED)
    with Talk(talk.bootstrap) as other:
        waiting = other.begin("orders", b"v")
        assert switch.asked.wait(30)
        talk.delete("orders")
        switch.answer.set()
        assert waiting().error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_settings_changed_while_one_hangs(harmed: Harmed) -> None:
    switch = plugins.Switch()

    def second(ctx: ValidationContext) -> Sequence[RecordError]:
        return [RecordError(0, "changed meanwhile")]

    talk = harmed(plugins.validator(switch.check), plugins.validator(second, "second", "other"))
    talk.create("orders", NAMED)
    with Talk(talk.bootstrap) as other:
        waiting = other.begin("orders", b"v")
        assert switch.asked.wait(30)
        assert talk.alter("orders", pykbroker_validators="second").error_code == 0
        switch.answer.set()
        answer = waiting()
    assert answer.error_code == ErrorCode.INVALID_RECORD
    assert answer.record_errors[0].batch_index_error_message == "changed meanwhile"


def test_a_generator_that_raises_half_way(harmed: Harmed) -> None:
    def half(ctx: ValidationContext) -> object:
        yield RecordError(0, "one")
        raise RuntimeError("out of order")

    talk = harmed(plugins.validator(half))
    talk.create("orders", NAMED)
    assert talk.produce("orders", b"v").error_code == ErrorCode.UNKNOWN_SERVER_ERROR


def test_records_that_do_not_decode_are_the_clients_fault(
    harmed: Harmed, caplog: pytest.LogCaptureFixture
) -> None:
    def reading(ctx: ValidationContext) -> Sequence[RecordError]:
        assert ctx.batch.records
        return ()

    talk = harmed(plugins.validator(reading))
    talk.create("orders", NAMED)
    assert talk.send("orders", talk.undecodable()).error_code == ErrorCode.INVALID_RECORD
    assert "a plugin failed" not in caplog.text
    assert talk.produce("orders", b"v").error_code == 0


def test_a_batch_that_was_appended_is_not_judged_again(harmed: Harmed) -> None:
    asked = 0

    def once(ctx: ValidationContext) -> Sequence[RecordError]:
        nonlocal asked
        asked += 1
        return () if asked == 1 else [RecordError(0, "changed its mind")]

    talk = harmed(plugins.validator(once))
    talk.create("orders", NAMED)
    for _ in range(2):
        answer = talk.produce("orders", b"v", producer_id=5, producer_epoch=0, base_sequence=0)
        assert (answer.error_code, answer.base_offset) == (0, 0)
    assert asked == 1


def test_what_is_acknowledged_is_there_whatever_fails_around_it(harmed: Harmed) -> None:
    asked = 0

    def moody(ctx: ValidationContext) -> object:
        nonlocal asked
        asked += 1
        if asked % 3 == 0:
            raise RuntimeError("out of order")
        return [RecordError(0, "no")] if asked % 3 == 1 else None

    talk = harmed(plugins.validator(moody))
    talk.create("orders", NAMED)
    acknowledged: list[bytes] = []
    for number in range(30):
        value = str(number).encode()
        answer = talk.produce("orders", value)
        if answer.error_code == 0:
            assert answer.base_offset == len(acknowledged)
            acknowledged.append(value)
    assert len(acknowledged) == 10
    assert talk.values("orders") == acknowledged
