"""Fetch sessions: a client that keeps to the protocol sees what full fetches would show it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.apis._fetch_sessions import (
    FetchContext,
    FetchSessions,
    FullContext,
    IncrementalContext,
    next_epoch,
)
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
)

NAMES = 12
IDS = 13


def wanted(*indexes: int, topic: str = "t", offset: int = 0) -> list[FetchTopic]:
    partitions = [FetchPartition(partition=i, fetch_offset=offset, partition_max_bytes=1) for i in indexes]
    return [FetchTopic(topic=topic, topic_id=topic.encode().ljust(16, b"\0"), partitions=partitions)]


def ask(
    sessions: FetchSessions,
    session_id: int,
    epoch: int,
    topics: list[FetchTopic] | None = None,
    *,
    forget: list[int] | None = None,
    version: int = NAMES,
    now: float = 0.0,
    replica: int = -1,
) -> FetchContext | ErrorCode:
    request = FetchRequest(
        session_id=session_id,
        session_epoch=epoch,
        topics=topics or [],
        forgotten_topics_data=[ForgottenTopic(topic="t", partitions=forget)] if forget else [],
        replica_id=replica,
    )
    return sessions.open(request, version, now)


def tell(context: FetchContext | ErrorCode, **data: PartitionData) -> FetchResponse:
    """Answer with high watermark 5 and no records, or as ``data`` says for ``p<index>``."""
    assert isinstance(context, FetchContext)
    return context.answer(
        [
            (
                key,
                data.get(f"p{key[1]}", PartitionData(partition_index=key[1], high_watermark=5, records=b"")),
            )
            for key, _ in context.wanted()
        ]
    )


def told(response: FetchResponse) -> list[int]:
    return [p.partition_index for topic in response.responses for p in topic.partitions]


def new_session(sessions: FetchSessions, *indexes: int, **options: float) -> int:
    context = sessions.open(
        FetchRequest(session_epoch=0, topics=wanted(*indexes)), NAMES, options.get("now", 0.0)
    )
    return tell(context).session_id


def test_epochs_wrap_to_one() -> None:
    assert [next_epoch(e) for e in (0, 1, 2147483647, -1)] == [1, 2, 1, -1]


def test_a_plain_fetch_makes_no_session() -> None:
    sessions = FetchSessions(10)
    response = tell(ask(sessions, 0, -1, wanted(0, 1)))
    assert (response.session_id, told(response), len(sessions)) == (0, [0, 1], 0)


def test_only_what_changed_is_told() -> None:
    sessions = FetchSessions(10)
    session = new_session(sessions, 0, 1, 2)
    assert told(tell(ask(sessions, session, 1))) == []
    grown = PartitionData(partition_index=1, high_watermark=6, records=b"")
    assert told(tell(ask(sessions, session, 2), p1=grown)) == [1]
    assert told(tell(ask(sessions, session, 3), p1=grown)) == []


def test_log_start_errors_and_divergence_are_told() -> None:
    sessions = FetchSessions(10)
    session = new_session(sessions, 0)
    trimmed = PartitionData(partition_index=0, high_watermark=5, log_start_offset=3, records=b"")
    assert told(tell(ask(sessions, session, 1), p0=trimmed)) == [0]
    broken = PartitionData(
        partition_index=0, error_code=3, high_watermark=-1, log_start_offset=3, records=b""
    )
    assert told(tell(ask(sessions, session, 2), p0=broken)) == [0]
    assert told(tell(ask(sessions, session, 3), p0=broken)) == [0], "an error is told each time"
    assert told(tell(ask(sessions, session, 4), p0=trimmed)) == [0], "and so is its end"


def test_partitions_with_records_go_to_the_end() -> None:
    sessions = FetchSessions(10)
    session = new_session(sessions, 0, 1, 2)
    data = PartitionData(partition_index=0, high_watermark=5, records=b"x")
    tell(ask(sessions, session, 1), p0=data)
    context = ask(sessions, session, 2)
    assert isinstance(context, IncrementalContext)
    assert [key[1] for key, _ in context.wanted()] == [1, 2, 0]


def test_partitions_are_added_changed_and_forgotten() -> None:
    sessions = FetchSessions(10)
    session = new_session(sessions, 0, 1)
    context = ask(sessions, session, 1, wanted(1, 2, offset=9), forget=[0])
    assert isinstance(context, IncrementalContext)
    assert [(key[1], p.fetch_offset) for key, p in context.wanted()] == [(1, 9), (2, 9)]


def test_a_session_without_partitions_is_closed() -> None:
    sessions = FetchSessions(10)
    session = new_session(sessions, 0)
    response = tell(ask(sessions, session, 1, forget=[0]))
    assert (response.session_id, len(sessions)) == (0, 0)


def test_wrong_requests() -> None:
    sessions = FetchSessions(10)
    session = new_session(sessions, 0)
    assert ask(sessions, session + 1, 1) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert ask(sessions, session, 2) is ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert ask(sessions, session, 1, version=IDS) is ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
    assert isinstance(ask(sessions, session, 1), IncrementalContext), "errors do not use up an epoch"


def test_a_request_that_was_overtaken_is_told_so() -> None:
    sessions = FetchSessions(10)
    session = new_session(sessions, 0)
    parked = ask(sessions, session, 1)
    tell(ask(sessions, session, 2))
    response = tell(parked)
    assert response.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert (response.session_id, response.responses) == (session, [])


@pytest.mark.parametrize("epoch", [0, -1])
def test_a_full_fetch_closes_the_session_it_names(epoch: int) -> None:
    sessions = FetchSessions(10)
    session = new_session(sessions, 0)
    ask(sessions, session, epoch, wanted(0))
    assert ask(sessions, session, 1) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_a_full_cache_refuses_young_clients() -> None:
    sessions = FetchSessions(2)
    assert all(new_session(sessions, 0) for _ in range(2))
    assert new_session(sessions, 0, now=1.0) == 0
    assert sessions.evicted == 0


def test_a_stale_session_makes_room() -> None:
    sessions = FetchSessions(2)
    old, used = new_session(sessions, 0), new_session(sessions, 0)
    tell(ask(sessions, used, 1, now=100.0))
    assert new_session(sessions, 0, now=121.0) != 0
    assert ask(sessions, old, 1) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert isinstance(ask(sessions, used, 2), IncrementalContext)


def test_a_larger_session_takes_the_place_of_an_older_smaller_one() -> None:
    sessions = FetchSessions(1)
    small = new_session(sessions, 0)
    tell(ask(sessions, small, 1, now=121.0))  # in use, but not young any more
    assert new_session(sessions, 0, 1, now=122.0) != 0
    assert sessions.evicted == 1


def test_a_replica_takes_the_place_of_a_young_client() -> None:
    sessions = FetchSessions(1)
    new_session(sessions, 0)
    context = ask(sessions, 0, 0, wanted(0), replica=2, now=1.0)
    assert isinstance(context, FullContext)
    assert tell(context).session_id != 0
    assert new_session(sessions, 0, 1, 2, now=2.0) == 0


Step = tuple[str, int, int]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["want", "forget", "grow", "fail", "trim"]), st.integers(0, 3), st.integers(0, 3)
        ),
        max_size=40,
    )
)
def test_incremental_answers_add_up_to_full_ones(steps: list[Step]) -> None:
    """A client that keeps what it was told knows of each partition what a full fetch would say."""
    sessions = FetchSessions(1)
    watermark, start, fresh = [0] * 4, [0] * 4, [0] * 4
    broken: set[int] = set()

    def data_of(index: int) -> PartitionData:
        if index in broken:
            return PartitionData(partition_index=index, error_code=1, high_watermark=-1, records=b"")
        return PartitionData(
            partition_index=index,
            high_watermark=watermark[index],
            log_start_offset=start[index],
            records=b"x" * fresh[index],
        )

    def gist(data: PartitionData) -> tuple[int, int, int]:
        return data.error_code, data.high_watermark, data.log_start_offset

    following = {0: 0}
    seen: dict[int, tuple[int, int, int]] = {}
    session, epoch = 0, 0
    for kind, index, amount in [("start", 0, 0), *steps]:
        changes: list[FetchTopic] = []
        forget: list[int] = []
        if kind == "want":
            following[index] = amount
            changes = wanted(index, offset=amount)
        elif kind == "forget" and len(following) > 1 and index in following:
            del following[index], seen[index]
            forget = [index]
        elif kind == "grow":
            watermark[index] += amount
            fresh[index] = amount
            broken.discard(index)
        elif kind == "fail":
            broken.add(index)
        elif kind == "trim":
            start[index] += amount
        if session == 0:
            changes = wanted(*following)
        context = ask(sessions, session, epoch, changes, forget=forget)
        assert isinstance(context, FetchContext)
        assert {key[1]: p.fetch_offset for key, p in context.wanted()} == following
        response = context.answer([(key, data_of(key[1])) for key, _ in context.wanted()])
        session, epoch = response.session_id, epoch + 1
        answers = {p.partition_index: p for topic in response.responses for p in topic.partitions}
        seen.update({index: gist(data) for index, data in answers.items()})
        assert seen == {i: gist(data_of(i)) for i in following}
        assert {i for i in following if data_of(i).records} <= set(answers), "records always arrive"
        fresh = [0] * 4
