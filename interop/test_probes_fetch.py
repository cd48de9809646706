"""Probes: what Fetch returns, how long it waits, and fetch sessions."""

import time
import uuid
from typing import Any

import pytest

from interop.batches import Record, decode_batches, encode_batch
from interop.messages import Answer
from interop.probing import (
    NEW_SESSION,
    create_topic,
    fetch,
    fetch_partition,
    fetch_request,
    list_offset,
    produce,
    unique,
)
from interop.raw import Connection


@pytest.fixture
def three_batches(connection: Connection, topic: str) -> str:
    """A topic with batches at offsets 0-2, 3-5 and 6-8, all of one size."""
    for _ in range(3):
        assert produce(connection, topic, encode_batch([Record(b"x" * 100, timestamp=1)] * 3)).error_code == 0
    return topic


def ranges(part: Answer) -> list[tuple[int, int]]:
    """First and last offset of each whole batch in an answer."""
    return [(batch.base_offset, batch.last_offset) for batch in decode_batches(part.records)]


@pytest.mark.parametrize("version", range(4, 13))
def test_every_version_with_names(connection: Connection, three_batches: str, version: int) -> None:
    """Versions 4 to 12 take names."""
    part = fetch(connection, three_batches, version=version)
    assert (part.error_code, part.high_watermark, part.last_stable_offset) == (0, 9, 9)
    assert ranges(part) == [(0, 2), (3, 5), (6, 8)]
    assert part.aborted_transactions is None
    if version >= 5:
        assert part.log_start_offset == 0
    if version >= 11:
        assert part.preferred_read_replica == -1


@pytest.mark.parametrize("version", range(13, 19))
def test_every_version_with_ids(connection: Connection, version: int) -> None:
    """From version 13 on topics have ids; from 15 on the replica id is a tagged field."""
    name = unique("by-id")
    topic_id = create_topic(connection, name)
    produce(connection, name)
    request = by_id(topic_id)
    if version >= 15:
        del request["replica_id"]
    answer = connection.ask("fetch", version, **request)
    assert (answer.error_code, answer.session_id) == (0, 0)
    assert answer.responses[0].topic_id == topic_id
    assert ranges(answer.responses[0].partitions[0]) == [(0, 0)]


def by_id(topic_id: uuid.UUID | None, **more: Any) -> dict[str, Any]:
    """A Fetch request for one topic by id."""
    topic = {"topic_id": topic_id, "partitions": [fetch_partition(0)]}
    return fetch_request("", **{"topics": [topic]} | more)


@pytest.mark.parametrize("offset", [4, 5])
def test_offset_inside_a_batch(connection: Connection, three_batches: str, offset: int) -> None:
    """The whole batch comes, from its base offset; the client skips."""
    assert ranges(fetch(connection, three_batches, offset)) == [(3, 5), (6, 8)]


def test_first_batch_is_returned_however_small_the_limit(connection: Connection, three_batches: str) -> None:
    """Both for the partition's and for the request's limit."""
    assert ranges(fetch(connection, three_batches, 3, partition_max_bytes=1))[:1] == [(3, 5)]
    assert ranges(fetch(connection, three_batches, 3, max_bytes=1))[:1] == [(3, 5)]
    assert len(fetch(connection, three_batches, 3, partition_max_bytes=1).records) < 2 * 400


def test_oversized_first_batch_only_for_the_first_non_empty_partition(connection: Connection) -> None:
    """In request order; the others get empty bytes."""
    topic = unique("several")
    create_topic(connection, topic, partitions=4)
    for partition in (1, 2, 3):
        produce(connection, topic, partition=partition)
    partitions = [fetch_partition(0, partition, 1 << 20) for partition in (0, 2, 1, 3)]
    request = fetch_request(topic, topics=[{"topic": topic, "partitions": partitions}], max_bytes=1)
    answer = connection.ask("fetch", 12, **request)
    filled = [part.partition_index for part in answer.responses[0].partitions if part.records]
    assert filled == [2]
    assert {part.records for part in answer.responses[0].partitions if part.partition_index != 2} == {b""}


def test_limit_in_the_middle_of_the_second_batch(connection: Connection, three_batches: str) -> None:
    """Kafka cuts at the byte, so a partial batch may follow; whole batches only would be legal too."""
    size = len(decode_batches(fetch(connection, three_batches).records)[0].data)
    part = fetch(connection, three_batches, partition_max_bytes=size + 100)
    assert ranges(part) == [(0, 2)]
    assert size <= len(part.records) <= size + 100


def test_at_the_log_end_it_waits(connection: Connection, three_batches: str) -> None:
    """Until max_wait_ms, then empty bytes (not null)."""
    started = time.monotonic()
    part = fetch(connection, three_batches, 9, max_wait=500)
    assert 0.45 < time.monotonic() - started < 20
    assert (part.error_code, part.records, part.high_watermark) == (0, b"", 9)


def test_min_bytes_0_does_not_wait(connection: Connection, three_batches: str) -> None:
    """At the log end, answered at once."""
    started = time.monotonic()
    assert fetch(connection, three_batches, 9, max_wait=20_000, min_bytes=0).records == b""
    assert time.monotonic() - started < 15


def test_min_bytes_waits_for_more(connection: Connection, three_batches: str) -> None:
    """There is something, but less than asked for: wait, then answer with it."""
    started = time.monotonic()
    part = fetch(connection, three_batches, max_wait=500, min_bytes=1 << 20)
    assert 0.45 < time.monotonic() - started < 20
    assert len(ranges(part)) == 3


def test_an_error_does_not_wait(connection: Connection, two_partitions: str) -> None:
    """A partition that cannot be read answers the whole request at once."""
    started = time.monotonic()
    request = fetch_request(two_partitions, max_wait=20_000, topics=wanted(two_partitions, 1, 99))
    answer = connection.ask("fetch", 12, **request)
    assert time.monotonic() - started < 15
    assert returned(answer) == [(0, 0), (1, 1)]


def test_unknown_partition_beside_a_waiting_one(connection: Connection, three_batches: str) -> None:
    """3 for it. Apache Kafka still waits for the other one, which nobody needs to copy."""
    partitions = [fetch_partition(9), fetch_partition(0, partition=5)]
    request = fetch_request(
        three_batches, max_wait=300, topics=[{"topic": three_batches, "partitions": partitions}]
    )
    assert sorted(returned(connection.ask("fetch", 12, **request))) == [(0, 0), (5, 3)]


def test_nothing_to_fetch_does_not_wait(connection: Connection, topic: str) -> None:
    """No partitions, or only unknown ones."""
    started = time.monotonic()
    assert connection.ask("fetch", 12, **fetch_request(topic, topics=[], max_wait=20_000)).responses == []
    assert fetch(connection, topic, partition=5, max_wait=20_000).error_code == 3
    assert time.monotonic() - started < 15


def test_a_produce_wakes_a_waiting_fetch(connection: Connection, connect: Any, topic: str) -> None:
    """Long before max_wait_ms."""
    waiting = connect()
    started = time.monotonic()
    pending = waiting.post("fetch", 12, **fetch_request(topic, max_wait=20_000))
    assert waiting.is_silent(within=0.2)
    produce(connection, topic)
    part = waiting.collect(pending).responses[0].partitions[0]
    assert time.monotonic() - started < 15
    assert ranges(part) == [(0, 0)]


@pytest.mark.parametrize("offset", [10, 1 << 40, -1, -5])
def test_offset_out_of_range(connection: Connection, three_batches: str, offset: int) -> None:
    """1, at once, with -1 for high watermark, last stable offset and log start."""
    part = fetch(connection, three_batches, offset, max_wait=5000)
    assert part.error_code == 1
    assert (part.high_watermark, part.last_stable_offset, part.log_start_offset) == (-1, -1, -1)
    assert part.records == b""


def test_offset_below_the_log_start(connection: Connection, three_batches: str) -> None:
    """1 as well, after DeleteRecords."""
    deleted = connection.ask(
        "delete_records",
        2,
        timeout=5000,
        topics=[{"name": three_batches, "partitions": [{"partition_index": 0, "offset": 4}]}],
    )
    assert deleted.topics[0].partitions[0].low_watermark == 4
    assert fetch(connection, three_batches, 3).error_code == 1
    part = fetch(connection, three_batches, 4)
    assert (part.error_code, part.log_start_offset, ranges(part)[0]) == (0, 4, (3, 5))


def test_unknown_topic(connection: Connection) -> None:
    """3, with empty records."""
    part = fetch(connection, unique("missing"))
    assert (part.error_code, part.high_watermark, part.records) == (3, -1, b"")


def test_unknown_topic_id(connection: Connection) -> None:
    """100 for the partition, 0 at the top."""
    answer = connection.ask("fetch", 13, **by_id(uuid.UUID(int=12345)))
    assert answer.error_code == 0
    assert answer.responses[0].partitions[0].error_code == 100


@pytest.mark.parametrize(("epoch", "expected"), [(-1, 0), (0, 0), (1, 75), (1000, 75)])
def test_current_leader_epoch(connection: Connection, topic: str, epoch: int, expected: int) -> None:
    """A larger epoch than the broker's is 75 UNKNOWN_LEADER_EPOCH; -1 asks for no check. On a fresh topic it
    is 0."""
    current = list_offset(connection, topic, -1).leader_epoch
    assert current == 0
    partition = fetch_partition(0, current_leader_epoch=epoch)
    part = fetch(connection, topic, topics=[{"topic": topic, "partitions": [partition]}])
    assert part.error_code == expected


def test_read_committed_without_transactions(connection: Connection, three_batches: str) -> None:
    """Everything, and an empty list of aborted transactions where read_uncommitted gets null."""
    part = fetch(connection, three_batches, isolation_level=1)
    assert len(ranges(part)) == 3
    assert part.aborted_transactions == []


def test_several_topics_in_one_request(connection: Connection, three_batches: str) -> None:
    """Each is answered."""
    other = unique("other")
    create_topic(connection, other)
    produce(connection, other)
    topics = [{"topic": name, "partitions": [fetch_partition(0)]} for name in (three_batches, other)]
    answer = connection.ask("fetch", 12, **fetch_request("", topics=topics))
    assert [response.topic for response in answer.responses] == [three_batches, other]
    assert [len(ranges(response.partitions[0])) for response in answer.responses] == [3, 1]


class Session:
    """A fetch session on one connection, by names."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.id = 0
        self.epoch = NEW_SESSION

    def ask(self, topics: list[dict[str, Any]], forgotten: list[dict[str, Any]] | None = None) -> Answer:
        """The next request of the session; a successful answer moves the epoch on."""
        request = fetch_request("", topics=topics, session_id=self.id, session_epoch=self.epoch)
        answer = self.connection.ask("fetch", 12, **request, forgotten_topics_data=forgotten or [])
        if answer.error_code == 0:
            self.id = answer.session_id
            self.epoch += 1
        return answer


def wanted(topic: str, *offsets: int) -> list[dict[str, Any]]:
    """Partitions 0, 1, ... of a topic from these offsets."""
    partitions = [fetch_partition(offset, index) for index, offset in enumerate(offsets)]
    return [{"topic": topic, "partitions": partitions}]


def returned(answer: Answer) -> list[tuple[int, int]]:
    """Partition index and error code of what an answer contains."""
    return [
        (part.partition_index, part.error_code)
        for response in answer.responses
        for part in response.partitions
    ]


def test_sessionless_fetch(connection: Connection, topic: str) -> None:
    """Session 0 with epoch -1: an answer with session 0."""
    answer = connection.ask("fetch", 12, **fetch_request(topic))
    assert (answer.error_code, answer.session_id) == (0, 0)


@pytest.fixture
def session(connection: Connection) -> Session:
    """A session that is not open yet."""
    return Session(connection)


@pytest.fixture
def two_partitions(connection: Connection) -> str:
    """A topic with two partitions of one record each."""
    name = unique("session")
    create_topic(connection, name, partitions=2)
    for partition in range(2):
        produce(connection, name, partition=partition)
    return name


def open_session(session: Session, topic: str, *offsets: int) -> Answer:
    """The first request of a session; skips for a broker that answers session 0, which is legal."""
    answer = session.ask(wanted(topic, *offsets))
    assert answer.error_code == 0
    if answer.session_id == 0:
        pytest.skip("this broker keeps no fetch sessions")
    return answer


def test_incremental_fetch_returns_what_changed(session: Session, two_partitions: str) -> None:
    """An unchanged partition is left out; a produce to one brings only that one."""
    first = open_session(session, two_partitions, 0, 0)
    assert returned(first) == [(0, 0), (1, 0)]
    assert returned(session.ask(wanted(two_partitions, 1, 1))) == []
    produce(session.connection, two_partitions, partition=1)
    changed = session.ask([])
    assert returned(changed) == [(1, 0)]
    assert ranges(changed.responses[0].partitions[0]) == [(1, 1)]


def test_partition_with_an_error_is_returned_each_time(session: Session, two_partitions: str) -> None:
    """Unlike an unchanged one."""
    open_session(session, two_partitions, 1, 1)
    assert returned(session.ask(wanted(two_partitions, 99))) == [(0, 1)]
    assert returned(session.ask([])) == [(0, 1)]


def test_forgotten_partition(session: Session, two_partitions: str) -> None:
    """It does not come back."""
    open_session(session, two_partitions, 0, 0)
    forgotten = [{"topic": two_partitions, "partitions": [0]}]
    assert returned(session.ask([], forgotten)) == [(1, 0)]


def test_wrong_session_epoch(session: Session, two_partitions: str) -> None:
    """71 INVALID_FETCH_SESSION_EPOCH at the top, no topics, session 0."""
    open_session(session, two_partitions, 0, 0)
    session.epoch = 7
    answer = session.ask([])
    assert (answer.error_code, answer.session_id, answer.responses) == (71, 0, [])


def test_unknown_session(connection: Connection) -> None:
    """70 FETCH_SESSION_ID_NOT_FOUND."""
    answer = connection.ask("fetch", 12, **fetch_request("", topics=[], session_id=123456, session_epoch=1))
    assert (answer.error_code, answer.session_id, answer.responses) == (70, 0, [])


def test_closing_a_session(session: Session, two_partitions: str) -> None:
    """Its id with epoch -1 closes it and is a full fetch without one."""
    open_session(session, two_partitions, 0, 0)
    closed = session.id
    session.epoch = -1
    answer = session.ask(wanted(two_partitions, 0))
    assert (answer.session_id, returned(answer)) == (0, [(0, 0)])
    session.id, session.epoch = closed, 2
    assert session.ask([]).error_code == 70


def test_id_with_epoch_0_makes_a_new_session(session: Session, two_partitions: str) -> None:
    """The old session is gone, the new one has another id."""
    open_session(session, two_partitions, 0, 0)
    old = session.id
    session.epoch = NEW_SESSION
    answer = session.ask(wanted(two_partitions, 0))
    assert answer.session_id not in (0, old)
    session.id, session.epoch = old, 1
    assert session.ask([]).error_code == 70


def test_names_and_ids_in_one_session(session: Session, two_partitions: str) -> None:
    """106 INCONSISTENT_TOPIC_ID... at the top when a session of names continues with a version of ids."""
    open_session(session, two_partitions, 0, 0)
    request = fetch_request("", topics=[], session_id=session.id, session_epoch=session.epoch)
    answer = session.connection.ask("fetch", 13, **request)
    assert (answer.error_code, answer.session_id, answer.responses) == (106, 0, [])
