"""What changes while records wait: topics, settings, groups, the clock."""

from __future__ import annotations

import pytest

from pykbroker.errors import ErrorCode
from tests.containment.failures import Failures, failing, wait

RETRY = "orders.billing.retry"
LETTERS = "orders.billing.dlq"
DAY_S = 86_400


def waiting(failures: Failures, partitions: int = 1, **settings: str) -> None:
    """One record waits a minute."""
    failures.policy("orders", partitions, **settings)
    failures.put("orders", b"v")
    assert failures.nack("billing", "orders", 0) == 0
    failures.decided(1)


def test_the_origin_is_deleted() -> None:
    """What waits comes in time; its next failure finds no policy, and is a dead letter."""
    with failing() as failures:
        waiting(failures)
        failures.delete("orders")
        failures.later(30, decided=1)
        failures.only(RETRY, 0)
        failures.later(30, decided=1)
        assert failures.eventually(RETRY, 1)[0].value == b"v"
        assert failures.nack("billing", RETRY, 0) == 0
        (letter,) = failures.eventually(LETTERS, 1)
        assert letter.text("pykbroker-source") == "orders/0/0"


def test_the_origin_is_deleted_and_the_group_has_a_policy() -> None:
    with failing() as failures:
        assert (
            failures.alter_group("billing", pykbroker_retry_policy="fixed", pykbroker_retry_delay_ms="7000")
            == 0
        )
        waiting(failures)
        failures.delete("orders")
        failures.later(60, decided=1)
        failures.eventually(RETRY, 1)
        assert failures.nack("billing", RETRY, 0) == 0
        failures.later(7, decided=2)
        assert failures.eventually(RETRY, 2)[1].text("pykbroker-attempt") == "2"


def test_the_origin_is_deleted_right_after_the_nack() -> None:
    """The copy may come or not, but nothing stands still."""
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0")
        failures.policy("bills", retry_delay_ms="0")
        failures.put("orders", b"v")
        failures.put("bills", b"bill")
        assert failures.nack("billing", "orders", 0) == 0
        failures.delete("orders")
        assert failures.nack("billing", "bills", 0) == 0
        failures.eventually("bills.billing.retry", 1)


def test_the_origin_is_made_again() -> None:
    """Offsets begin anew: a nack of offset 0 is another one."""
    with failing() as failures:
        waiting(failures)
        failures.delete("orders")
        failures.policy("orders")
        failures.put("orders", b"new")
        assert failures.nack("billing", "orders", 0) == 0
        failures.later(60, decided=2)
        assert sorted(each.value or b"" for each in failures.eventually(RETRY, 2)) == [b"new", b"v"]


def test_the_origin_gets_more_partitions() -> None:
    with failing() as failures:
        waiting(failures, retry_max_attempts="1")
        failures.add_partitions("orders", 3)
        failures.put("orders", b"new", partition=2)
        assert failures.nack("billing", "orders", 0, partition=2) == 0
        failures.later(60, decided=2)
        assert failures.eventually(RETRY, 1)[0].value == b"v"
        assert failures.eventually(RETRY, 1, partition=2)[0].value == b"new"
        assert failures.nack("billing", RETRY, 0, partition=2) == 0
        assert failures.eventually(LETTERS, 1, partition=2)[0].value == b"new"
        topics = failures.topics()
        assert (topics[RETRY], topics[LETTERS]) == (3, 3)
        assert failures.put(RETRY, b"sent", partition=1) == 0
        failures.later(60, decided=4)
        failures.eventually(RETRY, 1, partition=1)


@pytest.mark.parametrize("after", ["nack", "produce"])
def test_a_clock_set_back(after: str) -> None:
    """What waits becomes readable when the clock says so again; what comes meanwhile has its own time."""
    with failing() as failures:
        waiting(failures)
        failures.back(DAY_S, decided=1)
        failures.put("orders", b"meanwhile")
        if after == "nack":
            assert failures.nack("billing", "orders", 1) == 0
        else:
            assert failures.put(RETRY, b"meanwhile") == 0
        failures.later(60, decided=2)
        assert [each.value for each in failures.eventually(RETRY, 1)] == [b"meanwhile"]
        failures.later(DAY_S - 60, decided=2)
        failures.only(RETRY, 1)
        failures.later(60, decided=2)
        assert [each.value for each in failures.eventually(RETRY, 2)] == [b"meanwhile", b"v"]


def test_a_clock_set_forward_by_days_and_back() -> None:
    with failing() as failures:
        waiting(failures)
        failures.later(3 * DAY_S, decided=1)
        failures.eventually(RETRY, 1)
        failures.put("orders", b"future")
        assert failures.nack("billing", "orders", 1) == 0
        failures.back(3 * DAY_S, decided=2)
        failures.put("orders", b"now")
        assert failures.nack("billing", "orders", 2) == 0
        failures.later(60, decided=3)
        assert failures.eventually(RETRY, 2)[1].value == b"now"
        failures.later(3 * DAY_S, decided=3)
        assert failures.eventually(RETRY, 3)[2].value == b"future"


def test_a_group_that_has_no_policy_any_more() -> None:
    """What it produces to its retry topic is a dead letter at once; what waits comes in time."""
    with failing() as failures:
        waiting(failures)
        assert failures.alter("orders", pykbroker_retry_policy="none").error_code == 0
        assert failures.put(RETRY, b"sent", headers=[("pykbroker-reason", b"no idea")]) == 0
        (letter,) = failures.eventually(LETTERS, 1)
        assert (letter.value, letter.text("pykbroker-reason")) == (b"sent", "no idea")
        failures.later(60, decided=2)
        assert failures.eventually(RETRY, 1)[0].value == b"v"


def test_a_policy_that_changes_leaves_alone_what_waits() -> None:
    with failing() as failures:
        waiting(failures)
        assert failures.alter("orders", pykbroker_retry_policy="immediate").error_code == 0
        failures.put("orders", b"next")
        assert failures.nack("billing", "orders", 1) == 0
        assert [each.value for each in failures.eventually(RETRY, 1)] == [b"next"]
        failures.later(30, decided=2)
        failures.only(RETRY, 1)
        failures.later(30, decided=2)
        assert failures.eventually(RETRY, 2)[1].value == b"v"


def test_two_groups_with_one_name_for_their_topics(caplog: pytest.LogCaptureFixture) -> None:
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0")
        failures.put("orders", b"0", b"1")
        assert failures.nack("b/c", "orders", 0) == 0
        failures.eventually("orders.b_c.retry", 1)
        assert failures.nack("b:c", "orders", 0) == ErrorCode.INVALID_REQUEST
        assert failures.committed("b:c", "orders") == (-1, "")
        assert failures.commit("b:c", "orders", (0, 1, "")) == [0], "commits without nacks are its own matter"
        assert failures.nack("b/c", "orders", 1) == 0
        failures.eventually("orders.b_c.retry", 2)
    assert "pykbroker.retry.topic" in caplog.text


def test_a_name_that_is_too_long(caplog: pytest.LogCaptureFixture) -> None:
    origin = "o" * 240
    with failing() as failures:
        failures.policy(origin, retry_delay_ms="0")
        failures.put(origin, b"v")
        assert failures.nack("billing", origin, 0) == ErrorCode.INVALID_REQUEST
        assert "pykbroker.retry.topic" in caplog.text
        assert failures.commit("billing", origin, (0, 1, "")) == [0]
        short = {"pykbroker_retry_topic": "{topic}{group}", "pykbroker_dead_letter_topic": "letters"}
        assert failures.alter(origin, **short).error_code == 0
        assert failures.nack("billing", origin, 0) == 0
        failures.eventually(origin + "billing", 1)


@pytest.mark.parametrize("taken", [RETRY, LETTERS])
def test_a_name_that_is_taken(taken: str, caplog: pytest.LogCaptureFixture) -> None:
    with failing() as failures:
        assert failures.create(taken) == 0
        failures.put(taken, b"not yours")
        failures.policy("orders", retry_delay_ms="0", retry_max_attempts="0")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == ErrorCode.INVALID_REQUEST
        assert failures.committed("billing", "orders") == (-1, "")
        failures.only(taken, 1)
    setting = "pykbroker.retry.topic" if taken == RETRY else "pykbroker.dead.letter.topic"
    assert setting in caplog.text


def test_templates_that_cannot_be() -> None:
    templates = [
        "{topic}.retry",
        "{group}.retry",
        "retry",
        "{topic}{group}{else}",
        "{topic",
        "a b{topic}{group}",
    ]
    with failing() as failures:
        failures.policy("orders")
        for template in templates:
            answer = failures.alter("orders", pykbroker_retry_topic=template)
            assert answer.error_code == ErrorCode.INVALID_CONFIG
            assert answer.error_message


def test_the_group_is_deleted() -> None:
    """What waits is released all the same."""
    with failing() as failures:
        waiting(failures)
        failures.delete_group("billing")
        failures.later(60, decided=1)
        assert failures.eventually(RETRY, 1)[0].value == b"v"


def test_odd_groups() -> None:
    groups = ["a:b:c", "g" * 40, "ä", "..", "orders.billing", "{topic}", "%s", "x.retry"]
    with failing() as failures:
        for number, group in enumerate(groups):
            origin = f"orders{number}"
            failures.policy(origin, retry_delay_ms="0", retry_max_attempts="1")
            failures.put(origin, b"v")
            assert failures.nack(group, origin, 0) == 0
            (retry,) = [n for n in failures.topics() if n.startswith(origin) and n.endswith(".retry")]
            wait(lambda retry=retry: len(failures.letters(retry)) == 1)  # type: ignore[misc]  # bound now
            assert failures.letters(retry)[0].text("pykbroker-group") == group
            assert failures.nack(group, retry, 0) == 0
            (letters,) = [n for n in failures.topics() if n.startswith(origin) and n.endswith(".dlq")]
            wait(lambda letters=letters: len(failures.letters(letters)) == 1)  # type: ignore[misc]  # bound now


def test_whoever_asks_for_the_name_of_a_flow_that_waits_gets_its_topic() -> None:
    """Origin and retry topic are gone, and consumers that still poll ask for the name: it must not
    become an ordinary topic, which nothing could come back to."""
    with failing() as failures:
        waiting(failures)
        failures.delete("orders")
        failures.delete(RETRY)
        for topic in (RETRY, LETTERS):
            failures.ask_for(topic)
        failures.later(60, decided=1)
        assert failures.eventually(RETRY, 1)[0].value == b"v"
        assert failures.nack("billing", RETRY, 0) == 0
        assert failures.eventually(LETTERS, 1)[0].value == b"v"


def test_a_retry_topic_made_by_hand_is_one() -> None:
    with failing() as failures:
        failures.policy("orders", partitions=3)
        assert failures.create(RETRY) in (0, ErrorCode.INVALID_PARTITIONS)
        failures.put("orders", b"v", partition=2)
        assert failures.nack("billing", "orders", 0, partition=2) == 0
        failures.later(60, decided=1)
        failures.eventually(RETRY, 1, partition=2)


def test_a_shared_dead_letter_topic_with_fewer_partitions_that_is_deleted() -> None:
    with failing() as failures:
        assert failures.create("letters", partitions=2) == 0
        failures.policy("orders", 3, retry_max_attempts="0", dead_letter_topic="letters")
        for partition in range(3):
            failures.put("orders", b"%d" % partition, b"next", partition=partition)
            assert failures.nack("billing", "orders", 0, partition=partition) == 0
        assert sorted(each.value or b"" for each in failures.eventually("letters", 2)) == [b"0", b"2"]
        failures.eventually("letters", 1, partition=1)
        failures.delete("letters")
        assert failures.nack("billing", "orders", 1, partition=2) == 0
        wait(lambda: "letters" in failures.topics())
        everywhere = [failures.letters("letters", p) for p in range(failures.topics()["letters"])]
        wait(lambda: sum(len(failures.letters("letters", p)) for p in range(len(everywhere))) == 1)


def test_partition_numbers_the_topics_do_not_have() -> None:
    with failing() as failures:
        failures.policy("orders")
        assert failures.ask_for(RETRY) == 0
        assert failures.put(RETRY, b"v", partition=5) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert failures.nack("billing", "orders", 0, partition=5) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
