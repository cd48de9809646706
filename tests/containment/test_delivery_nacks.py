"""Nacks and failed records that are not as they should be: refused exactly, skipped exactly, never lost."""

from __future__ import annotations

import json
import logging

import pytest

from pykbroker import NackSkipped
from pykbroker.errors import ErrorCode
from tests.containment import plugins
from tests.containment.failures import Failures, failing, wait

RETRY = "orders.billing.retry"
LETTERS = "orders.billing.dlq"
INVALID = ErrorCode.INVALID_REQUEST


def nothing_happens(failures: Failures) -> None:
    """No failure is decided, in a moment."""
    before = failures.held()
    failures.only(RETRY, 0)
    assert failures.held() == before


def test_a_nack_at_or_beyond_the_commit_is_refused_for_its_partition_only() -> None:
    with failing() as failures:
        failures.policy("orders", partitions=3)
        for partition in range(3):
            failures.put("orders", b"0", b"1", partition=partition)
        nack = json.dumps({"nack": [0, 1]})
        codes = failures.commit(
            "billing", "orders", (0, 1, nack), (1, 2, nack), (2, 1, json.dumps({"nack": [[0, 9]]}))
        )
        assert codes == [INVALID, 0, INVALID]
        assert failures.committed("billing", "orders", 0) == (-1, "")
        assert failures.committed("billing", "orders", 1) == (2, nack)
        failures.later(60, decided=2)
        assert [each.value for each in failures.eventually(RETRY, 2, partition=1)] == [b"0", b"1"]
        failures.only(RETRY, 0, partition=0)
        failures.only(RETRY, 0, partition=2)


@pytest.mark.parametrize(
    "metadata",
    [
        "", "nack", "{", "[]", "7", "null", '"nack"', '{"nack"', '{"Nack": [0]}', '{"nack": 0}',
        '{"nack": "0"}',
        '{"nack": {"0": 1}}', '{"nack": [true]}', '{"nack": [0.5]}', '{"nack": [0e0]}', '{"nack": [null]}',
        '{"nack": [[0]]}', '{"nack": [[0, 0, 0]]}', '{"nack": [[1, 0]]}', '{"nack": [-1]}',
        '{"nack": [[-1, 0]]}',
        '{"nack": [NaN]}', '{"nack": [Infinity]}', '{"nack": []}', '{"nack": null}', "[" * 4000,
        '{"nack": ' + "[" * 4000, '{"nack": [' + "9" * 4000 + "]", '{"a":' * 700, "\x00", "\ufeff{}",
        '{"nack": [0], "nack": []}', '{"replay": [0]}', '{"purge": [0]}',
    ],
)  # fmt: skip
def test_metadata_that_is_no_nack_is_kept_and_not_interpreted(metadata: str, orders: Failures) -> None:
    assert orders.commit("billing", "orders", (0, 1, metadata)) == [0]
    assert orders.committed("billing", "orders") == (1, metadata)
    assert orders.held() == 0


@pytest.fixture(scope="module")
def orders() -> object:
    """A broker with topic ``orders`` that has a policy, and a record in it."""
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0")
        failures.put("orders", b"v")
        yield failures
        nothing_happens(failures)


REASONS = [
    '"\\ud800"', "7", "null", '["a"]', '{"a": 1}', '"' + "x" * 4000 + '"', '"a\\u0000b\\r\\n"', "true"
]  # fmt: skip


def test_any_reason_will_do() -> None:
    """A reason that is no text, or no Unicode, is no reason to lose the record."""
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0")
        for number, reason in enumerate(REASONS):
            failures.put("orders", b"%d" % number)
            metadata = f'{{"nack": [{number}], "reason": {reason}}}'
            assert failures.commit("billing", "orders", (0, number + 1, metadata)) == [0]
            assert failures.committed("billing", "orders") == (number + 1, metadata)
        found = failures.eventually(RETRY, len(REASONS))
        assert sorted(int(each.value or b"") for each in found) == list(range(len(REASONS)))


@pytest.mark.parametrize("last", [2**62, 2**63 - 2])
def test_a_nack_of_everything_there_could_ever_be(last: int) -> None:
    """Only what exists is looked at."""
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0")
        failures.put("orders", b"0", b"1")
        assert failures.nack("billing", "orders", [0, last]) == 0
        failures.eventually(RETRY, 2)
        failures.put("orders", b"2")
        assert failures.nack("billing", "orders", 2) == 0
        assert failures.eventually(RETRY, 3)[2].value == b"2"


def test_offsets_beyond_64_bits_are_refused_or_ignored(orders: Failures) -> None:
    metadata = json.dumps({"nack": [2**70]})
    (code,) = orders.commit("billing", "orders", (0, 1, metadata))
    assert code in (0, INVALID)


def test_a_group_without_a_policy(caplog: pytest.LogCaptureFixture) -> None:
    with failing() as failures:
        assert failures.create("orders") == 0
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 5, upto=2) == 0, "not interpreted, so not refused"
        assert failures.committed("billing", "orders") == (2, '{"nack": [5]}')
        failures.only(RETRY, 0)
        assert RETRY not in failures.topics()


def skips() -> tuple[object, list[NackSkipped]]:
    """A plugin that hears of skipped nacks, and what it has heard."""
    heard: list[NackSkipped] = []
    return plugins.plugin("listener", pykbroker_nack_skipped=lambda event: heard.append(event)), heard


def test_nacks_of_what_retention_removed(caplog: pytest.LogCaptureFixture) -> None:
    listener, heard = skips()
    caplog.set_level(logging.INFO)
    with failing(listener) as failures:
        failures.policy("orders", retry_delay_ms="0")
        failures.put("orders", b"0", b"1", b"2", b"3", b"4")
        assert failures.delete_records("orders", 3) == 0
        metadata = '{"nack": [0, [2, 4]]}'
        for _ in range(2):
            assert failures.commit("billing", "orders", (0, 5, metadata)) == [0]
        assert failures.committed("billing", "orders") == (5, metadata)
        assert [each.value for each in failures.eventually(RETRY, 2)] == [b"3", b"4"]
    assert [(e.topic, e.partition, e.group, list(e.offsets)) for e in heard] == [
        ("orders", 0, "billing", [(0, 0), (2, 2)])
    ]
    assert sum("orders-0" in line and "billing" in line and "2" in line for line in skipped(caplog)) == 1


def skipped(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]


def test_nacks_of_what_compaction_removed(caplog: pytest.LogCaptureFixture) -> None:
    listener, heard = skips()
    settings = {"log_cleaner_backoff_ms": 100, "log_cleaner_min_cleanable_ratio": 0}
    with failing(listener, **settings) as failures:
        failures.policy("orders", retry_delay_ms="0", cleanup_policy="compact", segment_bytes="14")
        for number in range(4):
            failures.put("orders", b"%d" % number)
        failures.broker.advance(60)
        wait(
            lambda: (
                [r.offset for r in failures.letters("orders")] == [2, 3]
                or len(failures.letters("orders")) == 2
            )
        )
        kept = [each.offset for each in failures.letters("orders")]
        assert failures.nack("billing", "orders", [0, 3]) == 0
        assert [each.text("pykbroker-source") for each in failures.eventually(RETRY, 2)] == [
            f"orders/0/{offset}" for offset in kept
        ]
        assert len(heard) == 1


def test_a_nack_counts_once_until_the_group_goes_back() -> None:
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0")
        failures.put("orders", b"0", b"1", b"2")
        for _ in range(3):
            assert failures.nack("billing", "orders", 1) == 0
        failures.eventually(RETRY, 1)
        assert failures.commit("billing", "orders", (0, 1, "")) == [0]
        assert failures.nack("billing", "orders", 1) == 0
        failures.eventually(RETRY, 2)


def test_a_nack_in_a_dead_letter_topic(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with failing() as failures:
        failures.policy("orders", retry_max_attempts="0")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        failures.eventually(LETTERS, 1)
        for group in ("billing", "other"):
            assert failures.nack(group, LETTERS, 0) == 0
            assert failures.committed(group, LETTERS) == (1, '{"nack": [0]}')
        failures.only(LETTERS, 1)
        assert failures.held() == 1
        assert [name for name in failures.topics() if "retry.other" in name or "dlq." in name] == []
    assert LETTERS in caplog.text


def test_a_nack_in_another_groups_retry_topic(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0", retry_max_attempts="1")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        failures.eventually(RETRY, 1)
        assert failures.nack("other", RETRY, 0) == 0
        assert failures.committed("other", RETRY) == (1, '{"nack": [0]}')
        failures.only(LETTERS, 0)
        assert failures.nack("billing", RETRY, 0) == 0, "its own group's counts"
        failures.eventually(LETTERS, 1)
    assert "other" in caplog.text


def test_many_nacks_in_small_pieces() -> None:
    """Every second record, with metadata as long as it may be, several times over."""
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0")
        for begin in range(0, 1600, 400):
            failures.put("orders", *(b"%d" % number for number in range(begin, begin + 400)))
        for begin in (0, 400, 0, 800, 1200, 800):
            assert failures.nack("billing", "orders", *range(begin, begin + 400, 2), upto=1600) == 0
        found = [int(each.value or b"") for each in failures.eventually(RETRY, 800)]
        assert sorted(found) == list(range(0, 1600, 2))
