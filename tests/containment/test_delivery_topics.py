"""Failed deliveries where a topic is broken: deleted, too small, compacted, of no use, an exchange."""

from __future__ import annotations

import json

import pytest

from pykbroker import RecordError
from pykbroker.errors import ErrorCode
from tests.containment import plugins
from tests.containment.failures import failing, wait

RETRY = "orders.billing.retry"
LETTERS = "orders.billing.dlq"


def test_the_retry_topic_is_deleted_while_records_wait() -> None:
    with failing() as failures:
        failures.policy("orders", partitions=2)
        failures.put("orders", b"v", partition=1)
        assert failures.nack("billing", "orders", 0, partition=1) == 0
        failures.decided(1)
        failures.delete(RETRY)
        assert RETRY not in failures.topics()
        failures.later(60, decided=1)
        (again,) = failures.eventually(RETRY, 1, partition=1)
        assert (again.value, again.text("pykbroker-source")) == (b"v", "orders/1/0")
        assert failures.topics()[RETRY] == 2
        assert failures.nack("billing", RETRY, 0, partition=1) == 0
        failures.later(60, decided=2)
        assert failures.eventually(RETRY, 2, partition=1)[1].text("pykbroker-attempt") == "2"


def test_the_retry_topic_is_deleted_and_what_waits_survives_a_restart() -> None:
    with failing() as failures:
        failures.policy("orders")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        failures.decided(1)
        failures.delete(RETRY)
        failures.restart()
        failures.broker.advance(60)
        failures.eventually(RETRY, 1)


def test_the_dead_letter_topic_is_deleted_then_comes_the_next() -> None:
    with failing() as failures:
        failures.policy("orders", retry_max_attempts="0")
        failures.put("orders", b"first", b"second")
        assert failures.nack("billing", "orders", 0) == 0
        failures.eventually(LETTERS, 1)
        failures.delete(LETTERS)
        assert failures.nack("billing", "orders", 1) == 0
        (letter,) = failures.eventually(LETTERS, 1)
        assert letter.value == b"second"


def test_a_record_too_large_for_its_topics_is_moved_all_the_same() -> None:
    with failing() as failures:
        failures.policy("orders", retry_max_attempts="1", retry_delay_ms="0")
        failures.put("orders", b"x" * 5000)
        assert failures.nack("billing", "orders", upto=0) == 0  # makes both topics
        for topic in (RETRY, LETTERS):
            assert failures.ask_for(topic) == 0
            assert failures.alter(topic, max_message_bytes="100").error_code == 0
        assert failures.nack("billing", "orders", 0) == 0
        assert len(failures.eventually(RETRY, 1)[0].value or b"") == 5000
        assert failures.nack("billing", RETRY, 0) == 0
        assert len(failures.eventually(LETTERS, 1)[0].value or b"") == 5000
        assert failures.put(RETRY, b"x" * 5000) == ErrorCode.MESSAGE_TOO_LARGE, "a client's own is refused"


@pytest.mark.parametrize("topic", [RETRY, LETTERS])
def test_topics_of_failed_deliveries_cannot_be_compacted(topic: str) -> None:
    with failing() as failures:
        failures.policy("orders")
        assert failures.ask_for(topic) == 0
        for value in ("compact", "compact,delete"):
            answer = failures.alter(topic, cleanup_policy=value)
            assert answer.error_code == ErrorCode.INVALID_CONFIG
        assert failures.alter(topic, retention_ms="-1").error_code == 0
        swept = failures.alter(topic, retention_ms="3600000").error_code
        assert swept == (ErrorCode.INVALID_CONFIG if topic == RETRY else 0)


def test_a_compacted_topic_cannot_be_named_for_dead_letters() -> None:
    with failing() as failures:
        assert failures.create("graveyard", {"cleanup.policy": "compact"}) == 0
        failures.policy("orders")
        answer = failures.alter("orders", pykbroker_dead_letter_topic="graveyard")
        assert answer.error_code == ErrorCode.INVALID_CONFIG


def test_a_dead_letter_without_key_waits_for_a_topic_that_takes_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The topic that several share is compacted because the broker's default has changed."""
    with failing() as failures:
        assert failures.create("letters") == 0
        failures.policy("orders", retry_max_attempts="0", dead_letter_topic="letters")
        failures.policy("bills", retry_max_attempts="0")
        failures.put("bills", b"bill")
        for topic in (RETRY, "bills.billing.retry"):
            assert failures.ask_for(topic) == 0
        assert failures.alter_broker(log_cleanup_policy="compact") == 0
        assert failures.put(RETRY, b"no key", key=None) == 0
        assert failures.put(RETRY, b"with key") == 0
        assert failures.nack("billing", "bills", 0) == 0
        failures.eventually("bills.billing.dlq", 1)
        assert [each.value for each in failures.eventually("letters", 1)] == [b"with key"]
        wait(lambda: "topic=letters" in caplog.text, lambda: caplog.text)
        assert "alter its cleanup.policy" in caplog.text
        failures.restart()
        assert failures.put(RETRY, b"later") == 0
        assert [each.value for each in failures.eventually("letters", 2)] == [b"with key", b"later"]
        assert failures.alter("letters", cleanup_policy="delete").error_code == 0
        found = failures.eventually("letters", 3)
        assert [each.value for each in found] == [b"with key", b"later", b"no key"]


@pytest.mark.parametrize("partitioner", [None, "round-robin"])
def test_a_topic_with_validators_takes_all_dead_letters(partitioner: str | None) -> None:
    """They are for what clients produce; a letter that one refused would be in no topic at all."""
    refusing = plugins.validator(lambda ctx: [RecordError(0, "never")])
    with failing(refusing) as failures:
        settings = {"pykbroker.validators": "harm"}
        if partitioner is not None:
            settings["pykbroker.partitioner"] = partitioner
        assert failures.create("letters", settings) == 0
        failures.policy("orders", retry_max_attempts="0", dead_letter_topic="letters")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        assert failures.put("letters", b"of a client") == ErrorCode.INVALID_RECORD
        assert [each.value for each in failures.eventually("letters", 1)] == [b"v"]


@pytest.mark.parametrize(
    "target", ["orders", RETRY, "__consumer_offsets", "{topic}", "{topic}.{group}.retry"]
)
def test_a_dead_letter_topic_that_would_loop(target: str) -> None:
    """Refused at the setting, or with the nack; or the topic has no policy, and nothing is interpreted."""
    with failing() as failures:
        failures.policy("orders", retry_max_attempts="0")
        failures.put("orders", b"v")
        assert failures.ask_for(RETRY) == 0
        if failures.alter("orders", pykbroker_dead_letter_topic=target).error_code == 0:
            if failures.nack("billing", "orders", 0) == ErrorCode.INVALID_REQUEST:
                assert failures.committed("billing", "orders") == (-1, "")
            failures.only(LETTERS, 0)
        else:
            assert failures.nack("billing", "orders", 0) == 0
            failures.eventually(LETTERS, 1)
        failures.only("orders", 1)
        failures.only(RETRY, 0)


def test_dead_letters_are_routed_by_reason_where_their_topic_is_an_exchange() -> None:
    bindings = [
        {"to": "slow", "arguments": {"pykbroker-reason": "timeout"}},
        {"to": "others", "arguments": {"pykbroker-reason": "broken"}},
    ]
    exchange = {"pykbroker.exchange.type": "headers", "pykbroker.exchange.bindings": json.dumps(bindings)}
    with failing() as failures:
        for topic in ("slow", "others"):
            assert failures.create(topic) == 0
        assert failures.create("letters", exchange) == 0
        failures.policy("orders", retry_max_attempts="0", dead_letter_topic="letters")
        failures.put("orders", b"0", b"1")
        assert failures.nack("billing", "orders", 0, reason="timeout") == 0
        assert failures.nack("billing", "orders", 1, reason="broken") == 0
        assert [each.value for each in failures.eventually("slow", 1)] == [b"0"]
        assert [each.value for each in failures.eventually("others", 1)] == [b"1"]


def test_a_dead_letter_exchange_that_leads_back_makes_no_loop() -> None:
    """Whatever is bound to it, and when: directly, by another exchange, to the retry topic or the origin."""

    def exchange(*targets: str) -> dict[str, str]:
        bindings = json.dumps([{"to": target} for target in targets])
        return {"pykbroker.exchange.type": "fanout", "pykbroker.exchange.bindings": bindings}

    with failing() as failures:
        failures.policy("orders", retry_max_attempts="0", dead_letter_topic="letters")
        failures.put("orders", b"0", b"1", b"2")
        assert failures.create("seen") == 0
        assert failures.ask_for(RETRY) == 0
        failures.delete("letters")
        assert failures.create("between", exchange()) == 0
        assert failures.create("letters", exchange("seen", "between")) == 0
        for number, back in enumerate((RETRY, "orders")):
            bindings = exchange(back)["pykbroker.exchange.bindings"]
            for name in ("between", "letters"):
                refused = failures.alter(name, pykbroker_exchange_bindings=bindings)
                assert refused.error_code == ErrorCode.INVALID_CONFIG
                assert "pykbroker.dead.letter.topic" in (refused.error_message or "")
            assert failures.nack("billing", "orders", number) == 0
            failures.eventually("seen", 1 + number)
        assert failures.create("circle", exchange("orders")) == 0
        refused = failures.alter("orders", pykbroker_dead_letter_topic="circle")
        assert refused.error_code == ErrorCode.INVALID_CONFIG
        assert "an exchange that leads to orders" in (refused.error_message or "")
        failures.only("orders", 3)
        failures.only(RETRY, 0)


def test_copies_of_an_exchange_wait_where_what_is_produced_waits() -> None:
    """In a topic that delays, and as a failure in a retry topic."""
    delayed = {"pykbroker.delay.enable": "true", "pykbroker.delay.ms": "60000", "retention.ms": "-1"}
    bindings = json.dumps([{"to": "later"}, {"to": RETRY}])
    exchange = {"pykbroker.exchange.type": "fanout", "pykbroker.exchange.bindings": bindings}
    with failing() as failures:
        failures.policy("orders")
        assert failures.ask_for(RETRY) == 0
        assert failures.create("later", delayed) == 0
        assert failures.create("sorting", exchange) == 0
        failures.put("sorting", b"v")
        failures.later(30, decided=2)
        failures.only("later", 0)
        failures.only(RETRY, 0)
        failures.broker.advance(30)
        assert failures.eventually("later", 1)[0].text("pykbroker-routed-from") == "sorting/0/0"
        assert failures.eventually(RETRY, 1)[0].text("pykbroker-attempt") == "1"


def test_a_delay_that_is_none_counts_as_the_topics() -> None:
    delays = [b"soon", b"", None, b"-5", b"1e3", b" 7", "²".encode(), b"\xff", b"0x10"]
    delayed = {"pykbroker.delay.enable": "true", "pykbroker.delay.ms": "60000", "retention.ms": "-1"}
    with failing() as failures:
        assert failures.create("later", delayed) == 0
        for number, delay in enumerate(delays):
            held = ("pykbroker-held", bytes(40))
            assert failures.put("later", b"%d" % number, headers=[held, ("pykbroker-delay-ms", delay)]) == 0
        assert failures.put("later", b"never", headers=[("pykbroker-delay-ms", b"9" * 30)]) == 0
        failures.later(55, decided=len(delays) + 1)
        failures.only("later", 0)
        failures.broker.advance(5)
        found = failures.eventually("later", len(delays))
        assert [int(each.value or b"") for each in found] == list(range(len(delays)))


def test_what_its_group_has_read_of_a_retry_topic_goes_in_time() -> None:
    """And only that: segments behind the committed offset, a week after they were closed."""
    with failing(offsets_retention_minutes=100_000) as failures:
        failures.policy("orders", retry_delay_ms="0")
        assert failures.ask_for(RETRY) == 0
        assert failures.alter(RETRY, segment_bytes="14").error_code == 0
        for number in range(6):
            failures.put("orders", b"%d" % number)
            assert failures.nack("billing", "orders", number) == 0
            failures.eventually(RETRY, number + 1)
        assert failures.commit("billing", RETRY, (0, 3, "")) == [0]
        failures.broker.advance(6 * 86_400)
        failures.only(RETRY, 6)
        failures.broker.advance(2 * 86_400)
        wait(lambda: failures.start(RETRY) == 3, lambda: failures.start(RETRY))
        assert [each.value for each in failures.only(RETRY, 3)] == [b"3", b"4", b"5"]
