"""Fetch on real logs: limits, waiting, errors, epochs (SEMANTICS, section 4)."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import Any

import pytest

from pykbroker.apis._registry import Parked
from pykbroker.apis.fetch import ParkedFetch, failed, handle
from pykbroker.errors import ErrorCode
from pykbroker.partitions.partition import Partition
from pykbroker.protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from pykbroker.protocol.schema import FileRegion, Records
from pykbroker.records.batch import iter_headers
from tests.partitions.kit import Bench, context

MB = 1 << 20


def asking(
    *partitions: FetchPartition,
    topic: str = "t",
    topic_id: bytes = bytes(16),
    max_wait_ms: int = 0,
    min_bytes: int = 1,
    max_bytes: int = 50 * MB,
    session: tuple[int, int] = (0, -1),
    committed: bool = False,
) -> FetchRequest:
    return FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        isolation_level=int(committed),
        session_id=session[0],
        session_epoch=session[1],
        topics=[FetchTopic(topic=topic, topic_id=topic_id, partitions=list(partitions))],
    )


def at(offset: int = 0, index: int = 0, max_bytes: int = MB, **more: Any) -> FetchPartition:
    return FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=max_bytes, **more)


def ask(bench: Bench, request: FetchRequest, version: int = 12) -> FetchResponse | Parked[FetchResponse]:
    response = handle(context(bench, 1, version), request)
    assert not isinstance(response, Awaitable)
    return response


def answer(bench: Bench, request: FetchRequest, version: int = 12) -> list[PartitionData]:
    response = ask(bench, request, version)
    assert isinstance(response, FetchResponse)
    assert response.error_code == 0
    return [data for topic in response.responses for data in topic.partitions]


def content(records: Records | None) -> bytes:
    assert records is not None
    if isinstance(records, FileRegion):
        return os.pread(records.fd, records.size, records.position)
    assert isinstance(records, bytes)
    return records


def spans(data: PartitionData) -> list[tuple[int, int]]:
    """(base offset, last offset) of each batch, which must be whole."""
    raw = content(data.records)
    headers = [header for _, header in iter_headers(raw)]
    assert sum(header.size for header in headers) == len(raw)
    return [(header.base_offset, header.last_offset) for header in headers]


def two(bench: Bench, **settings: str) -> tuple[Partition, Partition]:
    bench.catalog.create("t", partitions=2, overrides={k.replace("_", "."): v for k, v in settings.items()})
    return bench.partitions.get("t", 0), bench.partitions.get("t", 1)


@pytest.mark.parametrize("version", range(4, 13))
async def test_every_version_by_name(bench: Bench, version: int) -> None:
    bench.append(bench.topic(), b"a", b"b")
    [data] = answer(bench, asking(at()), version)
    assert (data.error_code, data.high_watermark, data.last_stable_offset, data.log_start_offset) == (
        0,
        2,
        2,
        0,
    )
    assert spans(data) == [(0, 1)]
    assert data.aborted_transactions is None
    assert data.preferred_read_replica == -1


@pytest.mark.parametrize("version", range(13, 19))
async def test_later_versions_by_id(bench: Bench, version: int) -> None:
    partition = bench.topic()
    bench.append(partition, b"a")
    request = asking(at(), topic="", topic_id=partition.topic_id)
    response = ask(bench, request, version)
    assert isinstance(response, FetchResponse)
    assert response.responses[0].topic_id == partition.topic_id
    assert spans(response.responses[0].partitions[0]) == [(0, 0)]
    [data] = answer(bench, asking(at(), topic="", topic_id=b"?" * 16), version)
    assert data.error_code == ErrorCode.UNKNOWN_TOPIC_ID


async def test_an_offset_inside_a_batch_gets_the_whole_batch(bench: Bench) -> None:
    partition = bench.topic()
    bench.append(partition, b"a", b"b", b"c")
    bench.append(partition, b"d")
    [data] = answer(bench, asking(at(1)))
    assert spans(data) == [(0, 2), (3, 3)]


async def test_the_first_batch_of_the_first_non_empty_partition_is_whole(bench: Bench) -> None:
    bench.catalog.create("t", partitions=3)
    for index in (1, 2):
        bench.append(bench.partitions.get("t", index), b"x" * 1000)
    answers = answer(bench, asking(at(max_bytes=1), at(index=1, max_bytes=1), at(index=2, max_bytes=1)))
    assert [spans(data) for data in answers] == [[], [(0, 0)], []]
    assert answers[2].records == b""
    answers = answer(bench, asking(at(), at(index=1), at(index=2), max_bytes=1))
    assert [spans(data) for data in answers] == [[], [(0, 0)], []]


async def test_limits_cut_between_batches(bench: Bench) -> None:
    first, second = two(bench)
    for partition in (first, second):
        for _ in range(3):
            bench.append(partition, b"x" * 100)
    size = first.log.size // 3
    answers = answer(bench, asking(at(max_bytes=2 * size + 5), at(index=1)))
    assert [len(spans(data)) for data in answers] == [2, 3]
    answers = answer(bench, asking(at(), at(index=1), max_bytes=4 * size))
    assert [len(spans(data)) for data in answers] == [3, 1]


async def test_large_answers_stay_in_the_file(bench: Bench) -> None:
    partition = bench.topic()
    for _ in range(3):
        bench.append(partition, b"x" * 100_000)
    [data] = answer(bench, asking(at()))
    assert isinstance(data.records, FileRegion)
    assert spans(data) == [(0, 0), (1, 1), (2, 2)]


async def test_the_end_of_the_log(bench: Bench) -> None:
    bench.append(bench.topic(), b"a")
    [data] = answer(bench, asking(at(1)))
    assert (data.error_code, data.records, data.high_watermark) == (0, b"", 1)
    [data] = answer(bench, asking(at(1), max_wait_ms=1000, min_bytes=0))
    assert (data.error_code, data.records) == (0, b"")


@pytest.mark.parametrize("offset", [2, -1])
async def test_offsets_out_of_range(bench: Bench, offset: int) -> None:
    bench.append(bench.topic(), b"a")
    [data] = answer(bench, asking(at(offset), max_wait_ms=10_000))
    assert data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert (data.high_watermark, data.last_stable_offset, data.log_start_offset) == (-1, -1, -1)
    assert data.records == b""


async def test_below_the_log_start(bench: Bench) -> None:
    partition = bench.topic()
    for _ in range(3):
        bench.append(partition, b"a")
    partition.delete_records_before(2)
    assert answer(bench, asking(at(1)))[0].error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    [data] = answer(bench, asking(at(2)))
    assert (spans(data), data.log_start_offset) == ([(2, 2)], 2)


async def test_unknown_topics_answer_at_once(bench: Bench) -> None:
    bench.topic()
    answers = answer(bench, asking(at(), at(index=1), max_wait_ms=10_000))
    assert [data.error_code for data in answers] == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]


async def test_nothing_asked_is_answered_at_once(bench: Bench) -> None:
    response = ask(bench, FetchRequest(max_wait_ms=10_000, min_bytes=1, session_epoch=-1))
    assert isinstance(response, FetchResponse)


async def test_only_acknowledged_records_are_seen(bench: Bench) -> None:
    partition = bench.topic(flush_messages="1")
    bench.append(partition, b"a")
    [data] = answer(bench, asking(at()))
    assert (data.high_watermark, data.records) == (0, b"")
    await partition.wait_high_watermark(1)
    assert spans(answer(bench, asking(at()))[0]) == [(0, 0)]


def park(bench: Bench, request: FetchRequest, version: int = 12) -> tuple[ParkedFetch, list[bool]]:
    parked = ask(bench, request, version)
    assert isinstance(parked, ParkedFetch)
    woken: list[bool] = []
    parked.start(lambda: woken.append(True))
    return parked, woken


async def test_a_long_poll_is_woken_by_the_append(bench: Bench) -> None:
    partition = bench.topic()
    parked, woken = park(bench, asking(at(), max_wait_ms=10_000))
    assert 9 < parked.deadline - bench.clock.monotonic() <= 10
    assert parked.answer(expired=False) is None
    bench.append(partition, b"a")
    assert woken
    response = parked.answer(expired=False)
    assert response is not None
    assert spans(response.responses[0].partitions[0]) == [(0, 0)]
    parked.close()
    woken.clear()
    bench.append(partition, b"b")
    assert not woken, "closed"


async def test_a_long_poll_waits_for_min_bytes(bench: Bench) -> None:
    first, second = two(bench)
    bench.append(first, b"x" * 300)
    parked, _ = park(bench, asking(at(), at(index=1), max_wait_ms=10_000, min_bytes=1000))
    bench.append(second, b"x" * 300)
    assert parked.answer(expired=False) is None
    bench.append(first, b"x" * 300)
    response = parked.answer(expired=False)
    parked.close()
    assert response is not None
    assert [spans(data) for data in response.responses[0].partitions] == [[(0, 0), (1, 1)], [(0, 0)]]


async def test_min_bytes_above_what_fetch_max_bytes_allows(bench: Bench) -> None:
    bench.append(bench.topic(), b"x" * 300)
    [data] = answer(bench, asking(at(), max_wait_ms=10_000, min_bytes=MB, max_bytes=100))
    assert spans(data) == [(0, 0)]


async def test_a_long_poll_expires_with_what_there_is(bench: Bench) -> None:
    bench.append(bench.topic(), b"a")
    parked, _ = park(bench, asking(at(), max_wait_ms=10_000, min_bytes=1000))
    response = parked.answer(expired=True)
    parked.close()
    assert response is not None
    assert spans(response.responses[0].partitions[0]) == [(0, 0)]


async def test_a_long_poll_learns_that_its_topic_is_gone(bench: Bench) -> None:
    bench.topic()
    parked, woken = park(bench, asking(at(), max_wait_ms=10_000))
    bench.catalog.delete("t")
    assert woken
    response = parked.answer(expired=False)
    parked.close()
    assert response is not None
    assert response.responses[0].partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


async def test_a_long_poll_learns_of_deleted_records(bench: Bench) -> None:
    partition = bench.topic()
    bench.append(partition, b"a")
    parked, _ = park(bench, asking(at(0), max_wait_ms=10_000, min_bytes=1000))
    partition.delete_records_before(1)
    response = parked.answer(expired=False)
    parked.close()
    assert response is not None


async def test_a_new_leader_epoch_wakes_a_long_poll(bench: Bench) -> None:
    bench.topic()
    parked, woken = park(bench, asking(at(current_leader_epoch=0), max_wait_ms=10_000))
    bench.catalog.elect("t", 1)
    assert woken
    response = parked.answer(expired=False)
    parked.close()
    assert response is not None
    assert response.responses[0].partitions[0].error_code == ErrorCode.FENCED_LEADER_EPOCH


async def test_leader_epochs(bench: Bench) -> None:
    partition = bench.topic()
    bench.append(partition, b"a")
    bench.catalog.elect("t", 3)
    for epoch, code in [
        (-1, 0),
        (3, 0),
        (4, ErrorCode.UNKNOWN_LEADER_EPOCH),
        (2, ErrorCode.FENCED_LEADER_EPOCH),
    ]:
        [data] = answer(bench, asking(at(current_leader_epoch=epoch)))
        assert data.error_code == code


async def test_a_fenced_client_is_told_the_leader(bench: Bench) -> None:
    partition = bench.topic()
    bench.catalog.elect("t", 3)
    request = asking(at(current_leader_epoch=2), topic="", topic_id=partition.topic_id)
    response = ask(bench, request, 16)
    assert isinstance(response, FetchResponse)
    data = response.responses[0].partitions[0]
    assert (data.current_leader.leader_id, data.current_leader.leader_epoch) == (1, 3)
    [endpoint] = response.node_endpoints
    assert (endpoint.node_id, endpoint.host, endpoint.port) == (1, "broker", 9092)


async def test_diverging_epochs(bench: Bench) -> None:
    partition = bench.topic()
    bench.append(partition, b"a", b"b")
    bench.catalog.elect("t", 2)
    bench.append(partition, b"c")
    [data] = answer(bench, asking(at(2, last_fetched_epoch=0), max_wait_ms=10_000))
    assert (spans(data), data.diverging_epoch.end_offset) == ([(2, 2)], -1)
    [data] = answer(bench, asking(at(3, last_fetched_epoch=1), max_wait_ms=10_000))
    assert (data.error_code, data.records) == (0, b"")
    assert (data.diverging_epoch.epoch, data.diverging_epoch.end_offset) == (0, 2)
    [data] = answer(bench, asking(at(3, last_fetched_epoch=9)))
    assert data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE


async def test_read_committed_gets_a_list_of_aborted_transactions(bench: Bench) -> None:
    bench.append(bench.topic(), b"a")
    [data] = answer(bench, asking(at(), committed=True))
    assert (spans(data), data.aborted_transactions) == ([(0, 0)], [])


async def test_read_committed_stops_at_an_open_transaction(bench: Bench) -> None:
    partition = bench.topic()
    bench.append(partition, b"a")
    batch = bench.batch(b"b", producer_id=1, producer_epoch=0, base_sequence=0, transactional=True)
    partition.append_as_leader(batch, now_ms=bench.clock.time_ms())
    bench.append(partition, b"c")
    [data] = answer(bench, asking(at(), committed=True))
    assert (spans(data), data.high_watermark, data.last_stable_offset) == ([(0, 0)], 3, 1)
    [data] = answer(bench, asking(at()))
    assert len(spans(data)) == 3


async def test_zstd_topics_need_version_10(bench: Bench) -> None:
    bench.append(bench.topic(compression_type="zstd"), b"a")
    assert answer(bench, asking(at()), 9)[0].error_code == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert answer(bench, asking(at()), 10)[0].error_code == 0


async def test_a_session_from_start_to_end(bench: Bench) -> None:
    first, second = two(bench)
    bench.append(first, b"a")
    response = ask(bench, asking(at(), at(index=1), session=(0, 0)))
    assert isinstance(response, FetchResponse)
    session = response.session_id
    assert session > 0

    def told(epoch: int, *changed: FetchPartition) -> list[int]:
        request = asking(*changed, session=(session, epoch))
        if not changed:
            request.topics = []
        return [data.partition_index for data in answer(bench, request)]

    assert told(1, at(1)) == []
    bench.append(second, b"b")
    assert told(2) == [1]
    assert told(3, at(1, index=1)) == []
    response = ask(bench, asking(session=(session, 3)))
    assert isinstance(response, FetchResponse)
    assert response.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert (response.session_id, response.responses) == (0, [])


async def test_a_long_poll_in_a_session(bench: Bench) -> None:
    partition = bench.topic()
    response = ask(bench, asking(at(), session=(0, 0)))
    assert isinstance(response, FetchResponse)
    request = asking(session=(response.session_id, 1), max_wait_ms=10_000)
    request.topics = []
    parked, _ = park(bench, request)
    bench.append(partition, b"a")
    again = parked.answer(expired=False)
    parked.close()
    assert again is not None
    assert again.session_id == response.session_id
    assert spans(again.responses[0].partitions[0]) == [(0, 0)]


async def test_failed_has_both_kinds_of_errors(bench: Bench) -> None:
    response = failed(context(bench, 1, 12), asking(at(), at(index=2)), ErrorCode.UNKNOWN_SERVER_ERROR)
    assert response.error_code == -1
    assert [(p.partition_index, p.error_code) for p in response.responses[0].partitions] == [(0, -1), (2, -1)]
