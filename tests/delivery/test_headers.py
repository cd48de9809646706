"""Headers of failed deliveries, against lists that are written the plain way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.catalog.retrying import Role, RoleKind
from pykbroker.delivery import headers
from pykbroker.delivery.headers import Failure, History, Nack, Origin
from tests.delivery.copies import Header, source, stored

ROLE = Role(RoleKind.RETRY, "orders", "billing")
TRUSTED: list[Header] = [("pykbroker-source", b"orders/3/17"), ("pykbroker-group", b"billing")]
FAILURE = Failure(Origin("orders", 3, 17), "billing", 2, 1000, 2000, "linear", "no stock")
WRITTEN = {
    "pykbroker-source": b"orders/3/17",
    "pykbroker-group": b"billing",
    "pykbroker-attempt": b"2",
    "pykbroker-first-failure-ms": b"1000",
    "pykbroker-last-failure-ms": b"2000",
    "pykbroker-policy": b"linear",
    "pykbroker-reason": b"no stock",
}
LETTER = {
    "__dlq.errors.topic": b"orders",
    "__dlq.errors.partition": b"3",
    "__dlq.errors.offset": b"17",
    "__dlq.errors.group": b"billing",
    "__dlq.errors.delivery.count": b"2",
    "__dlq.errors.message": b"no stock",
}

NAMES = st.sampled_from(
    [*WRITTEN, *LETTER, "__dlq.errors.disposition", "a", "pykbroker-sourc", "routing-key", "é", ""]
)
VALUES = st.none() | st.binary(max_size=20) | st.sampled_from([*WRITTEN.values(), b"\xff", b"9" * 30, b"-1"])
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=12)
BYTES = st.none() | st.binary(max_size=200)


def others(came: Sequence[Header]) -> list[Header]:
    """What came beside headers of ours."""
    return [each for each in came if each[0] not in WRITTEN and not each[0].startswith("__dlq.errors.")]


@given(HEADERS, BYTES, BYTES)
def test_a_retried_record_has_each_of_ours_once_behind_the_others(
    came: list[Header], key: bytes | None, value: bytes | None
) -> None:
    copy = headers.retried(source(came, key, value), FAILURE)
    record = stored(headers.suffix(copy))
    assert list(record.headers) == list(copy.headers) == [*others(came), *WRITTEN.items()]
    assert (record.key, record.value, record.timestamp) == (key, value, 7)
    assert copy.header_count == len(copy.headers)


@given(HEADERS, HEADERS)
def test_a_dead_letter_has_kafkas_too_and_a_policys(came: list[Header], more: list[Header]) -> None:
    more = others(more)
    copy = headers.dead_lettered(source(came), FAILURE, more)
    named = {name for name, _ in more}
    kept = [each for each in others(came) if each[0] not in named]
    expected = [*kept, *WRITTEN.items(), *LETTER.items(), *more]
    assert list(stored(headers.suffix(copy)).headers) == list(copy.headers) == expected


def test_what_is_not_known_is_not_written() -> None:
    failure = FAILURE._replace(origin=Origin("orders"), reason="")
    written = dict(headers.dead_lettered(source(), failure).headers)
    missing = {
        "pykbroker-reason", "__dlq.errors.partition", "__dlq.errors.offset", "__dlq.errors.message",
    }  # fmt: skip
    assert written.keys() == (WRITTEN.keys() | LETTER.keys()) - missing
    assert written["pykbroker-source"] == b"orders"


def test_what_is_written_is_read_again() -> None:
    retried = headers.retried(source(), FAILURE)
    assert headers.history(retried, ROLE) == History(Origin("orders", 3, 17), 2, 1000, 2000, "no stock")


@given(HEADERS)
def test_reading_never_fails_and_believes_only_this_role(came: list[Header]) -> None:
    found = headers.history(source(came), ROLE)
    last = dict(came)
    ours = last.get("pykbroker-source") == b"orders/3/17" and last.get("pykbroker-group") == b"billing"
    assert (found.origin is not None) == ours
    assert 0 <= found.attempt < 2**31
    assert ours or found.attempt == 0
    assert found.attempt or found.first_failure_ms is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pykbroker-source", b"others/3/17"),
        ("pykbroker-source", b"orders/3"),
        ("pykbroker-source", b"orders/3/17/1"),
        ("pykbroker-source", b"orders/-3/17"),
        ("pykbroker-source", b"orders/3/%d" % 2**63),
        ("pykbroker-source", b"orders/%d/1" % 2**31),
        ("pykbroker-source", b"\xff/3/17"),
        ("pykbroker-source", None),
        ("pykbroker-group", b"shipping"),
        ("pykbroker-group", None),
    ],
)
def test_headers_of_another_topic_or_group_count_for_nothing(name: str, value: bytes | None) -> None:
    came = [*headers.retried(source(), FAILURE).headers, (name, value)]
    assert headers.history(source(came), ROLE) == History(None, 0, None, None, "no stock")


@pytest.mark.parametrize("value", [b"", b"0", b"-1", b"1_0", b" 1", b"2.0", b"\xb2", b"%d" % 2**31, None])
def test_a_count_that_makes_no_sense_is_none(value: bytes | None) -> None:
    came = [*headers.retried(source(), FAILURE).headers, ("pykbroker-attempt", value)]
    assert headers.history(source(came), ROLE) == History(Origin("orders", 3, 17), 0, None, None, "no stock")


def test_one_malformed_time_is_taken_for_the_other() -> None:
    came = [*headers.retried(source(), FAILURE).headers, ("pykbroker-first-failure-ms", b"yesterday")]
    found = headers.history(source(came), ROLE)
    assert (found.attempt, found.first_failure_ms, found.last_failure_ms) == (2, 2000, 2000)


def test_a_producer_that_says_nothing_is_believed_the_next_time_too() -> None:
    failure = FAILURE._replace(origin=Origin("orders"), attempt=1)
    found = headers.history(headers.retried(source(), failure), ROLE)
    assert (found.origin, found.attempt) == (Origin("orders"), 1)


def test_of_several_reasons_the_last_counts() -> None:
    found = headers.history(source([("pykbroker-reason", b"old"), ("pykbroker-reason", b"new")]), ROLE)
    assert found.reason == "new"


@given(st.binary(max_size=9000))
def test_a_reason_is_text_of_a_bounded_size_and_stays_what_it_is(value: bytes) -> None:
    reason = headers.reason_text(value)
    assert len(reason.encode()) <= headers.REASON_BYTES
    assert headers.reason_text(reason.encode()) == reason


def test_a_long_reason_is_cut_between_characters() -> None:
    assert headers.reason_text("é".encode() * 3000) == "é" * 2048
    assert headers.reason_text(b"x" + "é".encode() * 3000) == "x" + "é" * 2047
    assert headers.reason_text(b"\xff" * 5000) == "\ufffd" * 1365


@given(HEADERS, st.text(max_size=5))
def test_a_nack_in_the_origin_is_a_first_failure(came: list[Header], reason: str) -> None:
    nack = Nack(False, "orders", 3, "billing", reason)
    record = stored(headers.nacked_suffix(source(came, offset=17), nack.encode()))
    why = [("pykbroker-reason", reason.encode("utf-8", "replace"))] if reason else []
    assert list(record.headers) == [*others(came), *TRUSTED, *why]
    assert (record.key, record.value) == (b"k", b"v")


@given(HEADERS, st.text(max_size=5))
def test_a_nack_in_the_retry_topic_replaces_the_reason_only(came: list[Header], reason: str) -> None:
    nack = Nack(True, "orders.billing.retry", 3, "billing", reason)
    record = stored(headers.nacked_suffix(source(came, offset=17), nack.encode()))
    why = [("pykbroker-reason", reason.encode("utf-8", "replace"))] if reason else []
    kept = [each for each in came if each[0] != "pykbroker-reason"]
    assert list(record.headers) == [*kept, *why]


@given(HEADERS)
def test_a_replayed_letter_is_as_it_was_produced(came: list[Header]) -> None:
    letter = headers.dead_lettered(source(came), FAILURE)
    record = stored(headers.replayed_suffix(letter))
    assert list(record.headers) == others(came)


@given(st.booleans(), st.text(), st.integers(0, 2**31 - 1), st.text(), st.text())
def test_notes_are_read_again(returned: bool, topic: str, partition: int, group: str, reason: str) -> None:
    nack = Nack(returned, topic, partition, group, reason)
    assert Nack.decode(nack.encode()) == nack


@pytest.mark.parametrize("note", [b"", b"[]", b"{}", b"[1,2,3,4,5]", b"\xff", b'[true,"t",0,"g"]'])
def test_other_notes_are_refused(note: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # json says many things
        Nack.decode(note)
