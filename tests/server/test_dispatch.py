"""From frame to answer, and what is said when that fails."""

from __future__ import annotations

import logging

import pytest

from pykbroker.errors import ErrorCode
from pykbroker.protocol.errors import ProtocolError
from pykbroker.protocol.frames import encode_request
from pykbroker.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from pykbroker.protocol.messages.fetch import FetchRequest, FetchResponse
from pykbroker.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from pykbroker.protocol.messages.produce import ProduceResponse
from pykbroker.server import Fault, Faults, ServerLimits
from pykbroker.server.dispatch import CloseConnection
from tests.server.fakes import FakeApis, core, failing, frame, produce_request, step


def test_produce_is_answered_at_once_with_the_frame_s_own_bytes() -> None:
    apis = FakeApis()
    connection = core(apis)
    answers, call = step(connection, frame(produce_request(b"records"), 9, 5))
    assert call is None
    correlation_id, body = answers.take(ProduceResponse, 9)
    assert (correlation_id, body.responses[0].partition_responses[0].base_offset) == (5, 0)
    (records,) = apis.produced
    records[0:1] = b"R"
    assert bytes(records) == b"Records"


def test_context() -> None:
    apis = FakeApis()
    request = frame(produce_request(), 9, 5)
    step(core(apis), request)
    (ctx,) = apis.contexts
    assert (ctx.api_key, ctx.version, ctx.client_id, ctx.client_host) == (0, 9, "test", "192.0.2.1")
    assert (ctx.connection_id, ctx.now_ms, ctx.now, ctx.request_bytes) == (7, 1_000, 5.0, len(request) - 4)


@pytest.mark.parametrize(("key", "version"), [(999, 0), (-1, 0), (1, 3), (1, 19), (0, 2), (12, 99), (12, -1)])
def test_unknown_key_or_version_closes(key: int, version: int) -> None:
    data = key.to_bytes(2, "big", signed=True) + version.to_bytes(2, "big", signed=True) + bytes(20)
    connection = core(FakeApis())
    answers, call = step(connection, len(data).to_bytes(4, "big") + data)
    assert connection.closing
    assert isinstance(connection.reason, ProtocolError)
    assert answers.data == b""
    assert call is None


def test_answers_before_a_malformed_request_are_sent() -> None:
    connection = core(FakeApis())
    answers, _ = step(
        connection, frame(produce_request(), 9, 1), b"\0\0\0\3abc", frame(produce_request(), 9, 2)
    )
    assert answers.correlation_ids() == [1]
    assert connection.closing
    assert not connection.has_frame


@pytest.mark.parametrize("version", [5, 99, 32767])
def test_api_versions_from_the_future(version: int) -> None:
    """Version 0 of the answer, one row, connection open."""
    data = bytearray(encode_request(ApiVersionsRequest(), 4, 3, "new"))
    data[6:8] = version.to_bytes(2, "big")
    connection = core(FakeApis())
    answers, _ = step(connection, bytes(data), frame(ApiVersionsRequest(), 0, 4))
    correlation_id, body = answers.take(ApiVersionsResponse, 0)
    assert (correlation_id, body.error_code) == (3, ErrorCode.UNSUPPORTED_VERSION)
    assert [(row.api_key, row.min_version, row.max_version) for row in body.api_keys] == [(18, 0, 4)]
    assert answers.take(ApiVersionsResponse, 0)[1].error_code == 0
    assert not connection.closing


def test_a_kafka_error_is_answered_in_the_response_s_shape(caplog: pytest.LogCaptureFixture) -> None:
    apis = FakeApis()
    apis.fails = failing(ErrorCode.KAFKA_STORAGE_ERROR)
    connection = core(apis)
    answers, _ = step(connection, frame(produce_request(), 9, 5))
    body = answers.take(ProduceResponse, 9)[1]
    assert body.responses[0].partition_responses[0].error_code == ErrorCode.KAFKA_STORAGE_ERROR
    assert not connection.closing
    assert caplog.records == []


def test_a_failure_is_answered_and_its_traceback_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    apis = FakeApis()
    apis.fails = ZeroDivisionError("ours")
    connection = core(apis)
    answers, _ = step(connection, frame(produce_request(), 9, 5), frame(produce_request(), 9, 6))
    for correlation_id in (5, 6):
        found, body = answers.take(ProduceResponse, 9)
        assert found == correlation_id
        assert body.responses[0].partition_responses[0].error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert not connection.closing
    first, second = caplog.records
    assert first.levelno == logging.ERROR
    assert first.exc_info is not None
    assert not second.exc_info
    assert "traceback logged before" in second.getMessage()


def test_acks_0_gets_no_answer() -> None:
    connection = core(FakeApis())
    answers, call = step(connection, frame(produce_request(acks=0), 9, 1), frame(produce_request(), 9, 2))
    assert answers.correlation_ids() == [2]
    assert call is None


@pytest.mark.parametrize("error", [failing(ErrorCode.NOT_LEADER_OR_FOLLOWER), ZeroDivisionError()])
def test_acks_0_that_fails_closes(error: Exception) -> None:
    apis = FakeApis()
    apis.fails = error
    connection = core(apis)
    answers, _ = step(connection, frame(produce_request(acks=0), 9, 1), frame(produce_request(), 9, 2))
    assert answers.data == b""
    assert connection.closing
    assert isinstance(connection.reason, CloseConnection)


def test_an_answer_that_cannot_be_encoded() -> None:
    """A handler's bug like any other."""
    apis = FakeApis()
    apis.records = 7  # type: ignore[assignment]  # what a bug would do
    answers, _ = step(core(apis), frame(FetchRequest(), 12, 1))
    assert answers.take(FetchResponse, 12)[1].error_code == ErrorCode.UNKNOWN_SERVER_ERROR


def test_only_produce_may_be_large() -> None:
    limits = ServerLimits(max_plain_request_bytes=1000)
    apis = FakeApis()
    connection = core(apis, limits)
    step(connection, frame(produce_request(bytes(2000)), 9, 1))
    assert not connection.closing
    step(connection, frame(HeartbeatRequest(group_id="g" * 2000), 0, 1))
    assert connection.closing


async def test_an_awaited_handler_is_settled_later() -> None:
    connection = core(FakeApis())
    answers, call = step(
        connection, frame(HeartbeatRequest(generation_id=3), 4, 1), frame(produce_request(), 9, 2)
    )
    assert answers.data == b""
    assert call is not None
    connection.settle(call, await call.result)  # type: ignore[misc]  # it is an awaitable here
    answers, call = step(connection)
    assert answers.take(HeartbeatResponse, 4) == (1, HeartbeatResponse(throttle_time_ms=3))
    assert answers.correlation_ids() == [2]
    assert call is None


def test_faults_name_key_count() -> None:
    faults = Faults()
    by_name = faults.add(Fault(api="Produce", error=ErrorCode.REQUEST_TIMED_OUT, count=2))
    by_key = faults.add(Fault(api=1, drop=True))
    apis = FakeApis()
    connection = core(apis, faults=faults)
    answers, _ = step(connection, *(frame(produce_request(), 9, n) for n in range(3)))
    codes = [
        answers.take(ProduceResponse, 9)[1].responses[0].partition_responses[0].error_code for _ in range(3)
    ]
    assert codes == [7, 7, 0]
    step(connection, frame(FetchRequest(), 12, 9))
    assert connection.closing
    assert (by_name.hits, by_key.hits, len(apis.handled)) == (2, 1, 1)


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"delay_s": -1.0}, {"drop": True, "error": ErrorCode.REQUEST_TIMED_OUT}]
)
def test_faults_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"allowed|not both"):
        Fault(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_faults_removed() -> None:
    faults = Faults()
    rule = faults.add(Fault(count=None, error=ErrorCode.REQUEST_TIMED_OUT))
    assert faults.take(3, "Metadata") is rule
    assert faults.take(0, "Produce") is rule
    faults.remove(rule)
    faults.remove(rule)
    faults.add(Fault())
    faults.clear()
    assert faults.take(3, "Metadata") is None
