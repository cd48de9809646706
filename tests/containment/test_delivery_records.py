"""Failed records that are odd: forged headers, whatever keys and values, bytes that are no record."""

from __future__ import annotations

import pytest

from pykbroker.errors import ErrorCode
from pykbroker.records.build import RecordData, encode_batch
from tests.containment.failures import CREATED_MS, Failures, failing

RETRY = "orders.billing.retry"
LETTERS = "orders.billing.dlq"

FORGED = [
    ("pykbroker-source", b"bills/0/0"), ("pykbroker-group", b"billing"), ("pykbroker-attempt", b"99"),
    ("pykbroker-first-failure-ms", b"1"), ("__dlq.errors.topic", b"bills"), ("pykbroker-held", b"\x00" * 40),
    ("pykbroker-role", b"dlq:orders:billing"), ("mine", b"kept"),
]  # fmt: skip


CHANGES: list[dict[str, bytes | None]] = [
    {},
    {"pykbroker-source": b"orders/0/0", "pykbroker-group": b"other"},
    {"pykbroker-source": b"orders", "pykbroker-attempt": b"0"},
    {"pykbroker-source": b"\xff\xfe/0/0"},
    {"pykbroker-source": None},
    {"pykbroker-source": b"orders/0/0", "pykbroker-attempt": b"many"},
    {"pykbroker-source": b"orders/-1/x", "pykbroker-attempt": b"-7"},
    {"pykbroker-source": b"orders/0/0", "pykbroker-attempt": b"9" * 5000},
    {"pykbroker-source": b"orders/0/0", "pykbroker-attempt": "²".encode()},
    {
        "pykbroker-source": b"orders/0/0",
        "pykbroker-attempt": b" 0_0",
        "pykbroker-first-failure-ms": b"\xff",
    },
]


def test_headers_that_are_forged_or_malformed_make_a_first_failure() -> None:
    with failing() as failures:
        failures.policy("orders", retry_max_attempts="1", retry_delay_ms="0")
        assert failures.ask_for(RETRY) == 0
        for change in CHANGES:
            headers = [(name, change.get(name, value)) for name, value in FORGED]
            assert failures.put(RETRY, b"v", headers=headers) == 0
        for again in failures.eventually(RETRY, len(CHANGES)):
            assert again.text("pykbroker-attempt") == "1"
            assert again.text("pykbroker-group") == "billing"
            assert again.text("__dlq.errors.topic") is None
            assert again.text("mine") == "kept"
            first_ms = int(again.text("pykbroker-first-failure-ms") or 0)
            assert abs(first_ms - failures.broker.clock.time_ms()) < 60_000


def test_forged_headers_in_the_origin_are_not_believed() -> None:
    headers = [
        ("pykbroker-source", b"orders/0/7"),
        ("pykbroker-group", b"other"),
        ("pykbroker-attempt", b"99"),
    ]
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0")
        failures.put("orders", b"v", headers=headers)
        assert failures.nack("billing", "orders", 0) == 0
        (again,) = failures.eventually(RETRY, 1)
        assert (again.text("pykbroker-source"), again.text("pykbroker-attempt")) == ("orders/0/0", "1")


def test_a_group_that_reads_its_own_dead_letters_makes_no_loop() -> None:
    """It nacks them, and sends them to its retry topic: each of these is a dead letter again, once."""
    with failing() as failures:
        failures.policy("orders", retry_max_attempts="0")
        failures.put("orders", b"v")
        assert failures.nack("billing", "orders", 0) == 0
        (letter,) = failures.eventually(LETTERS, 1)
        assert failures.nack("billing", LETTERS, 0) == 0
        assert failures.put(RETRY, b"v", headers=list(letter.headers.items())) == 0
        assert failures.eventually(LETTERS, 2)[1].text("pykbroker-source") == "orders/0/0"


def test_records_of_all_kinds_are_copied_as_they_are() -> None:
    odd = [("", b""), ("h", None), ("h", b"\xff"), ("pykbroker-x", b"1"), ("routing-key", b"r")]
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0", retry_max_attempts="1")
        records = [
            RecordData(None, None),
            RecordData(b"", b"", headers=odd),
            RecordData(b"k", b"v" * 100_000, timestamp_ms=0),
        ]
        for codec in range(5):
            batch = encode_batch(records, timestamp_ms=CREATED_MS, codec=codec)
            assert failures.send("orders", batch).error_code == 0
        assert failures.nack("billing", "orders", [0, 14]) == 0
        found = failures.eventually(RETRY, 15)
        for number, each in enumerate(found):
            sent = records[number % 3]
            assert (each.key, each.value) == (sent.key, sent.value)
            assert each.timestamp == (CREATED_MS if sent.timestamp_ms is None else 0)
            assert [h for h in each.headers.items() if h[0] in dict(odd)] == list(dict(sent.headers).items())
        assert failures.nack("billing", RETRY, [0, 14]) == 0
        assert [(e.key, e.value, e.timestamp) for e in failures.eventually(LETTERS, 15)] == [
            (e.key, e.value, e.timestamp) for e in found
        ]


@pytest.mark.damages_data
def test_a_record_that_does_not_decode_is_in_nobodys_way() -> None:
    """A producer may write what is no record inside lengths that add up; no consumer can read it either."""
    with failing() as failures:
        failures.policy("orders", retry_delay_ms="0")
        failures.put("orders", b"0")
        assert failures.send("orders", failures.undecodable()).error_code in (0, ErrorCode.INVALID_RECORD)
        failures.put("orders", b"2")
        end = 3 if len(read_offsets(failures)) == 3 else 2
        assert failures.nack("billing", "orders", [0, end - 1]) == 0
        assert [each.value for each in failures.eventually(RETRY, 2)] == [b"0", b"2"]
        assert failures.send(RETRY, failures.undecodable()).error_code in (0, ErrorCode.INVALID_RECORD)
        assert failures.put(RETRY, b"sent") == 0
        assert failures.eventually(RETRY, 3)[2].value == b"sent"


def read_offsets(failures: Failures) -> range:
    """The offsets of topic ``orders``."""

    def look() -> range:
        partition = failures.broker.broker.services.partitions.get("orders", 0)
        return range(partition.log_start_offset, partition.high_watermark)

    return failures.broker.run(look)
