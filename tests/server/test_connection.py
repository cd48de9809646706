"""The sans-IO core: order, turns, parked answers."""

from __future__ import annotations

import pytest

from pykbroker.protocol.messages.fetch import FetchRequest, FetchResponse
from pykbroker.protocol.messages.heartbeat import HeartbeatRequest
from pykbroker.server import ServerLimits
from pykbroker.server.waiting import Waiting
from tests.server.fakes import FakeApis, Park, collected, core, fetched, frame, produce_request, step


def test_pipelined_requests_are_answered_in_order_in_one_go() -> None:
    answers, _ = step(core(FakeApis()), b"".join(frame(produce_request(), 9, n) for n in range(10)))
    assert answers.correlation_ids() == list(range(10))


def test_nothing_is_handled_behind_a_parked_fetch() -> None:
    apis = FakeApis()
    connection = core(apis)
    answers, call = step(
        connection,
        frame(produce_request(), 9, 1),
        frame(FetchRequest(), 12, 2),
        frame(produce_request(), 9, 3),
    )
    assert answers.correlation_ids() == [1]
    assert call is not None
    assert isinstance(call.result, Waiting)
    assert len(apis.handled) == 2
    assert connection.held > 0
    assert call.result.poll() is None
    assert apis.parks[0].polls == []
    apis.parks[0].finish(b"data")
    answer = call.result.poll()
    connection.settle(call, answer)
    answers, call = step(connection)
    assert answers.take(FetchResponse, 12) == (2, fetched(b"data"))
    assert answers.correlation_ids() == [3]
    assert connection.held == 0


def test_woken_for_nothing_then_expired() -> None:
    park = Park(deadline=3.0)
    waiting = Waiting(park)
    waiting.wake()
    assert waiting.poll() is None
    assert waiting.poll() is None
    waiting.expire()
    assert waiting.poll() == fetched(b"")
    assert park.polls == [False, True]
    waiting.close()
    assert park.closed == 1


def test_notify_is_called_by_either() -> None:
    waiting = Waiting(Park(deadline=3.0))
    seen: list[str] = []
    waiting.notify = lambda: seen.append("notified")
    waiting.wake()
    waiting.expire()
    assert len(seen) == 2


def test_no_answer_at_the_deadline_is_a_failure() -> None:
    class Never(Park):
        def answer(self, *, expired: bool) -> FetchResponse | None:
            return None

    waiting = Waiting(Never(0.0))
    waiting.expire()
    with pytest.raises(RuntimeError, match="no answer at its deadline"):
        waiting.poll()


def test_a_turn_ends_after_so_many_frames_and_so_many_bytes() -> None:
    connection = core(FakeApis(), ServerLimits(max_frames_per_turn=3, max_answer_bytes=10_000))
    answers, _ = step(connection, *(frame(produce_request(), 9, n) for n in range(5)))
    assert answers.correlation_ids() == [0, 1, 2]
    assert connection.has_frame
    assert step(connection)[0].correlation_ids() == [3, 4]
    apis = FakeApis()
    apis.records = bytes(6_000)
    connection = core(apis, ServerLimits(max_answer_bytes=10_000))
    answers, _ = step(connection, *(frame(FetchRequest(), 12, n) for n in range(5)))
    assert answers.correlation_ids() == [0, 1]


def test_a_call_that_is_never_waited_for() -> None:
    """Its connection broke first: no coroutine is left behind, no watcher either."""
    apis = FakeApis()
    connection = core(apis)
    _, call = step(connection, frame(FetchRequest(), 12, 1))
    assert call is not None
    call.discard()
    assert apis.parks[0].closed == 1
    _, call = step(core(apis), frame(HeartbeatRequest(), 4, 1))
    assert call is not None
    call.discard()


def test_abandoned() -> None:
    """What came behind the request that waited can still be handled, for nobody."""
    apis = FakeApis()
    connection = core(apis)
    step(connection, frame(FetchRequest(), 12, 1), frame(produce_request(), 9, 2))
    connection.abandon()
    assert connection.has_frame
    assert connection.process(1_000, 5.0) is None
    assert len(apis.produced) == 1
    connection.discard_answers()
    assert collected(connection).data == b""
    assert connection.held == 0
