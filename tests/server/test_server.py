"""The trio driver over real loopback sockets."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import socket
import struct
from pathlib import Path

import pytest
import trio
import trio.testing

from pykbroker.clock import MovableClock
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from pykbroker.protocol.messages.fetch import FetchRequest, FetchResponse
from pykbroker.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from pykbroker.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from pykbroker.protocol.messages.produce import ProduceRequest, ProduceResponse
from pykbroker.protocol.schema import FileRegion
from pykbroker.server import Fault, Faults, Server, ServerLimits
from tests.server.fakes import NO_SERVICES, FakeApis, fetched, frame, produce_request, serving

API_VERSIONS = frame(ApiVersionsRequest(), 0, 0)


async def test_answers_and_counts() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.send(frame(ApiVersionsRequest(), 0, 42))
        correlation_id, body = await client.receive(ApiVersionsResponse, 0)
        assert (correlation_id, body.error_code) == (42, 0)
        statistics = running.server.statistics()
        assert (statistics.connections, statistics.accepted, statistics.requests) == (1, 1, 1)
        assert statistics.bytes_in == len(API_VERSIONS)
        assert statistics.bytes_out > 0
        assert statistics.buffered_bytes == 0


async def test_pipelined_requests_are_answered_in_order() -> None:
    """More than one turn's worth, of all kinds."""
    async with serving() as running:
        running.apis.records = b"r"
        client = await running.connect()
        for n in range(0, 300, 3):
            await client.send(
                frame(produce_request(), 9, n),
                frame(HeartbeatRequest(), 4, n + 1),
                frame(FetchRequest(), 12, n + 2),
            )
        kinds = [(ProduceResponse, 9), (HeartbeatResponse, 4), (FetchResponse, 12)]
        for n in range(300):
            assert (await client.receive(*kinds[n % 3]))[0] == n


async def test_byte_by_byte() -> None:
    async with serving() as running:
        client = await running.connect()
        for byte in frame(produce_request(), 9, 1) + API_VERSIONS:
            await client.send(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert (await client.receive(ProduceResponse, 9))[0] == 1
        assert (await client.receive(ApiVersionsResponse, 0))[0] == 0


async def test_large_request_is_received_in_place() -> None:
    async with serving() as running:
        client = await running.connect()
        records = os.urandom(3_000_000)
        await client.send(frame(produce_request(records), 9, 1), frame(produce_request(), 9, 2))
        assert (await client.receive(ProduceResponse, 9))[0] == 1
        assert (await client.receive(ProduceResponse, 9))[0] == 2
        assert running.apis.produced[0] == records
        assert running.server.statistics().buffered_bytes == 0


@pytest.mark.parametrize("length", [-1, -(2**31), 1001, 2**31 - 1])
async def test_impossible_length_closes_and_the_next_connection_is_served(
    length: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(ServerLimits(max_request_bytes=1000)) as running:
        client, other = await running.connect(), await running.connect()
        await client.send(length.to_bytes(4, "big", signed=True) + bytes(20))
        assert await client.ends() == b""
        await other.send(API_VERSIONS)
        assert (await other.receive(ApiVersionsResponse, 0))[0] == 0
        assert running.server.statistics().closed_malformed == 1
    (record,) = caplog.records
    assert f"frame length {length}, allowed: 0 to 1000" in record.getMessage()
    assert "peer=127.0.0.1" in record.getMessage()


async def test_lines_about_bad_clients_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as running:

        async def bad() -> None:
            client = await running.connect()
            await client.send(b"GET / HTTP/1.1\r\n\r\n")
            await client.ends()

        for _ in range(15):
            await bad()
        assert len(caplog.records) == 10
        running.clock.advance(11, sessions=True)
        await bad()
    assert [record.levelno for record in caplog.records[10:]] == [logging.WARNING] * 2
    assert "left out 5 lines" in caplog.records[10].getMessage()


async def test_a_reader_that_does_not_read() -> None:
    """Its answers wait in the kernel, its requests unread; others are served."""
    async with serving() as running:
        running.apis.records = bytes(200_000)
        slow, other = await running.connect(), await running.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.send, *(frame(FetchRequest(), 12, n) for n in range(400)))
            await running.settled(lambda: len(running.apis.handled) > 5)
            await trio.testing.wait_all_tasks_blocked(0.05)
            handled = len(running.apis.handled)
            assert handled < 400
            await other.send(API_VERSIONS)
            await other.receive(ApiVersionsResponse, 0)
            assert running.server.statistics().connections == 2
            for n in range(400):
                assert (await slow.receive(FetchResponse, 12))[0] == n


async def test_long_poll_is_woken() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.send(frame(FetchRequest(max_wait_ms=60_000), 12, 1), API_VERSIONS)
        await running.settled(lambda: running.server.statistics().parked == 1)
        (park,) = running.apis.parks
        assert park.wake is not None
        park.wake()
        await running.settled(lambda: park.polls == [False])
        park.finish(b"news")
        assert await client.receive(FetchResponse, 12) == (1, fetched(b"news"))
        assert (await client.receive(ApiVersionsResponse, 0))[0] == 0
        assert park.closed == 1
        assert running.server.statistics().parked == 0


async def test_long_poll_expires_on_the_broker_s_clock() -> None:
    async with serving() as running:
        first, second = await running.connect(), await running.connect()
        await first.send(frame(FetchRequest(max_wait_ms=60_000), 12, 1))
        await running.settled(lambda: len(running.apis.parks) == 1)
        await second.send(frame(FetchRequest(max_wait_ms=30_000), 12, 2))
        await running.settled(lambda: running.server.statistics().parked == 2)
        running.clock.advance(31, sessions=True)
        assert (await second.receive(FetchResponse, 12))[0] == 2
        assert running.server.statistics().parked == 1
        running.clock.advance(30, sessions=True)
        assert (await first.receive(FetchResponse, 12))[0] == 1
        assert [park.polls for park in running.apis.parks] == [[True], [True]]


async def test_a_parked_answer_that_fails() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.send(frame(FetchRequest(max_wait_ms=60_000), 12, 1))
        await running.settled(lambda: running.server.statistics().parked == 1)
        running.apis.parks[0].finish(3)  # type: ignore[arg-type]  # what a bug would do
        body = (await client.receive(FetchResponse, 12))[1]
        assert body.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
        assert running.server.statistics().failures == 1


async def test_client_leaves_while_parked() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.send(frame(FetchRequest(max_wait_ms=60_000), 12, 1))
        await running.settled(lambda: running.server.statistics().parked == 1)
        await client.stream.aclose()
        await running.settled(lambda: running.server.statistics().connections == 0)
        assert running.apis.parks[0].closed == 1
        assert running.server.statistics().parked == 0


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_client_leaves_while_its_handler_waits_for_others(how: str) -> None:
    """The handler is cancelled; what the client sent behind the request is still carried out."""
    async with serving() as running:
        cancelled: list[str] = []

        async def on_join(request: JoinGroupRequest) -> JoinGroupResponse:
            try:
                await trio.sleep_forever()
            finally:
                cancelled.append(request.group_id)
            raise AssertionError

        running.apis.on_join = on_join
        client = await running.connect()
        await client.send(frame(JoinGroupRequest(group_id="g"), 4, 1))
        await running.settled(lambda: len(running.apis.handled) == 1)
        await client.send(
            frame(HeartbeatRequest(), 4, 2),
            frame(FetchRequest(max_wait_ms=60_000), 12, 3),
            frame(JoinGroupRequest(group_id="h"), 4, 4),
            frame(produce_request(), 9, 5),
        )
        await running.settled(lambda: running.server.statistics().buffered_bytes > 100)
        assert cancelled == []
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await client.stream.aclose()
        await running.settled(lambda: running.server.statistics().connections == 0)
        assert cancelled == ["g"]
        # Not the second JoinGroup: there is nobody who could be a member.
        kinds = [JoinGroupRequest, HeartbeatRequest, FetchRequest, ProduceRequest]
        assert [type(request) for request in running.apis.handled] == kinds
        assert running.apis.parks[0].closed == 1
        assert running.server.statistics().buffered_bytes == 0


async def test_a_handler_that_waits_for_others_answers_and_fails_as_any_other() -> None:
    async with serving() as running:
        go = trio.Event()

        async def on_join(request: JoinGroupRequest) -> JoinGroupResponse:
            await go.wait()
            if request.group_id:
                raise OSError(errno.ENOSPC, "disk full")
            return JoinGroupResponse(generation_id=7)

        running.apis.on_join = on_join
        client = await running.connect()
        await client.send(frame(JoinGroupRequest(), 4, 1), frame(JoinGroupRequest(group_id="g"), 4, 2))
        await running.settled(lambda: len(running.apis.handled) == 1)
        await client.send(API_VERSIONS)
        go.set()
        assert (await client.receive(JoinGroupResponse, 4))[1].generation_id == 7
        body = (await client.receive(JoinGroupResponse, 4))[1]
        assert body.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
        assert (await client.receive(ApiVersionsResponse, 0))[0] == 0


async def test_client_leaves_while_another_handler_runs() -> None:
    """It is carried through: a client may send and close at once."""
    async with serving() as running:
        go, done = trio.Event(), trio.Event()

        async def on_heartbeat(request: HeartbeatRequest) -> HeartbeatResponse:
            await go.wait()
            done.set()
            return HeartbeatResponse()

        running.apis.on_heartbeat = on_heartbeat
        client = await running.connect()
        await client.send(frame(HeartbeatRequest(), 4, 1))
        await running.settled(lambda: len(running.apis.handled) == 1)
        await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
        go.set()
        await done.wait()
        await running.settled(lambda: running.server.statistics().connections == 0)


async def test_a_client_that_sends_on_while_parked_is_not_read_for_ever() -> None:
    async with serving(ServerLimits(max_parked_bytes=10_000)) as running:
        client = await running.connect()
        await client.send(frame(FetchRequest(max_wait_ms=60_000), 12, 1))
        await running.settled(lambda: running.server.statistics().parked == 1)
        more = b"".join(frame(produce_request(bytes(1000)), 9, n) for n in range(10_000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, more)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert running.server.statistics().buffered_bytes < 300_000  # one more read than allowed
            running.apis.parks[0].finish(b"")
            assert (await client.receive(FetchResponse, 12))[0] == 1
            for n in range(10_000):
                assert (await client.receive(ProduceResponse, 9))[0] == n


async def test_handler_that_waits_and_fails() -> None:
    async with serving() as running:
        go = trio.Event()

        async def on_heartbeat(request: HeartbeatRequest) -> HeartbeatResponse:
            await go.wait()
            raise OSError(errno.ENOSPC, "disk full")

        running.apis.on_heartbeat = on_heartbeat
        client = await running.connect()
        await client.send(frame(HeartbeatRequest(), 4, 1), API_VERSIONS)
        await running.settled(lambda: len(running.apis.handled) == 1)
        go.set()
        body = (await client.receive(HeartbeatResponse, 4))[1]
        assert body.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
        assert (await client.receive(ApiVersionsResponse, 0))[1].error_code == 0


async def test_too_many_connections() -> None:
    async with serving(ServerLimits(max_connections=2)) as running:
        first, _second = await running.connect(), await running.connect()
        await running.settled(lambda: running.server.statistics().connections == 2)
        third = await running.connect()
        assert await third.ends() == b""
        await first.stream.aclose()
        await running.settled(lambda: running.server.statistics().connections == 1)
        fourth = await running.connect()
        await fourth.send(API_VERSIONS)
        await fourth.receive(ApiVersionsResponse, 0)
        assert running.server.statistics().refused == 1


async def test_idle_connections_are_closed() -> None:
    """One that waits for its answer is not idle."""
    async with serving() as running:
        idle, parked, active = [await running.connect() for _ in range(3)]
        await parked.send(frame(FetchRequest(max_wait_ms=10_000_000), 12, 1))
        await idle.send(API_VERSIONS)
        await idle.receive(ApiVersionsResponse, 0)
        await active.send(API_VERSIONS)
        await active.receive(ApiVersionsResponse, 0)
        running.clock.advance(400, sessions=True)
        await active.send(API_VERSIONS)
        await active.receive(ApiVersionsResponse, 0)
        running.clock.advance(300, sessions=True)
        assert await idle.ends() == b""
        await active.send(API_VERSIONS)
        await active.receive(ApiVersionsResponse, 0)
        statistics = running.server.statistics()
        assert (statistics.closed_idle, statistics.connections, statistics.parked) == (1, 2, 1)


async def test_too_many_connections_from_one_address() -> None:
    async with serving(ServerLimits(max_connections_per_ip=1)) as running:
        first = await running.connect()
        await first.send(API_VERSIONS)
        await first.receive(ApiVersionsResponse, 0)
        assert await (await running.connect()).ends() == b""
        running.server.limit(ServerLimits(max_connections_per_ip=2))
        second = await running.connect()
        await second.send(API_VERSIONS)
        await second.receive(ApiVersionsResponse, 0)
        assert await (await running.connect()).ends() == b""
        await first.stream.aclose()
        await running.settled(lambda: running.server.statistics().connections == 1)
        third = await running.connect()
        await third.send(API_VERSIONS)
        await third.receive(ApiVersionsResponse, 0)
        assert running.server.statistics().refused == 2


@pytest.mark.parametrize("size", [-1, 40_000])
async def test_socket_buffers(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, object]] = []
    setsockopt = socket.socket.setsockopt

    def noted(self: socket.socket, level: int, name: int, value: int) -> None:
        given.append((name, value))
        setsockopt(self, level, name, value)

    async with serving(ServerLimits(send_buffer_bytes=size, receive_buffer_bytes=size)) as running:
        monkeypatch.setattr(socket.socket, "setsockopt", noted)
        client = await running.connect()
        await client.send(API_VERSIONS)
        await client.receive(ApiVersionsResponse, 0)
    for name in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        assert ((name, size) in given) is (size > 0)


async def test_a_slow_reader_that_goes_on_is_not_idle() -> None:
    """Its answer may take longer than the idle time; one that stopped reading is cut off."""
    async with serving() as running:
        running.apis.records = bytes(60_000_000)  # far more than the kernel keeps
        client = await running.connect()
        await client.send(frame(FetchRequest(), 12, 1))
        data = client.answers.data
        while len(data) < 50_000_000:
            await trio.testing.wait_all_tasks_blocked(0.005)
            running.clock.advance(200, sessions=True)
            await trio.testing.wait_all_tasks_blocked(0.005)
            got = len(data)
            while len(data) < got + 8_000_000:
                with trio.fail_after(20):
                    data += await client.stream.receive_some(1 << 20)
        assert (await client.receive(FetchResponse, 12))[0] == 1
        await client.send(frame(FetchRequest(), 12, 2))
        await running.settled(lambda: len(running.apis.handled) == 2)
        await trio.testing.wait_all_tasks_blocked(0.005)
        with trio.fail_after(20):
            while running.server.statistics().closed_idle == 0:  # it may still fill the kernel's buffers
                running.clock.advance(601, sessions=True)
                await trio.testing.wait_all_tasks_blocked(0.005)
        assert len(await client.ends()) < 60_000_000


async def test_never_idle() -> None:
    async with serving(ServerLimits(idle_timeout_s=math.inf)) as running:
        client = await running.connect()
        running.clock.advance(1e6, sessions=True)
        await client.send(API_VERSIONS)
        await client.receive(ApiVersionsResponse, 0)


async def test_all_connections_together_hold_too_much() -> None:
    """Who holds most of it and sends no more gives it back; the others go on."""
    async with serving(ServerLimits(max_buffered_bytes=200_000, memory_wait_s=0.05)) as running:
        greedy, other = await running.connect(), await running.connect()
        whole = frame(produce_request(bytes(1_000_000)), 9, 1)
        with contextlib.suppress(trio.BrokenResourceError):
            await greedy.send(whole[:300_000])
        assert await greedy.ends() == b""
        await other.send(API_VERSIONS)
        await other.receive(ApiVersionsResponse, 0)
        statistics = running.server.statistics()
        assert (statistics.closed_memory, statistics.buffered_bytes) == (1, 0)


@pytest.mark.parametrize("sendfile", [True, False])
async def test_records_from_files(tmp_path: Path, sendfile: bool) -> None:
    """Between bytes, several per answer, larger than the socket's buffer, and pipelined."""
    content = os.urandom(6_000_000)
    (tmp_path / "log").write_bytes(content)
    fd = os.open(tmp_path / "log", os.O_RDONLY)
    try:
        async with serving(ServerLimits(sendfile=sendfile)) as running:
            running.apis.records = [
                b"head", FileRegion(fd, 1000, 5_000_000), b"middle", FileRegion(fd, 5, 1), b"tail"
            ]  # fmt: skip
            expected = b"head" + content[1000:5_001_000] + b"middle" + content[5:6] + b"tail"
            client = await running.connect()
            await client.send(frame(FetchRequest(), 12, 1), frame(FetchRequest(), 12, 2), API_VERSIONS)
            for n in (1, 2):
                correlation_id, body = await client.receive(FetchResponse, 12)
                assert correlation_id == n
                assert body.responses[0].partitions[0].records == expected
            assert (await client.receive(ApiVersionsResponse, 0))[0] == 0
            assert running.server.statistics().bytes_out > 10_000_000
    finally:
        os.close(fd)


@pytest.mark.parametrize("sendfile", [True, False])
async def test_a_file_that_ends_early(
    tmp_path: Path, sendfile: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The announced answer cannot be finished: closed, and said so."""
    (tmp_path / "log").write_bytes(bytes(1000))
    fd = os.open(tmp_path / "log", os.O_RDONLY)
    try:
        async with serving(ServerLimits(sendfile=sendfile)) as running:
            running.apis.records = FileRegion(fd, 500, 1000)
            client = await running.connect()
            await client.send(frame(FetchRequest(), 12, 1))
            assert len(await client.ends()) < 1000
    finally:
        os.close(fd)
    assert "ends early in its file" in caplog.text


async def test_faults() -> None:
    faults = Faults()
    rules = [
        Fault(api="Produce", delay_s=30.0, error=ErrorCode.NOT_LEADER_OR_FOLLOWER),
        Fault(api="Produce", delay_s=30.0),
        Fault(api="Heartbeat", delay_s=30.0),
        Fault(api="Fetch", delay_s=30.0, count=2),
    ]
    for rule in rules:
        faults.add(rule)
    long_poll = FetchRequest(max_wait_ms=60_000)
    async with serving(faults=faults) as running:

        async def waits(count: int) -> None:
            await running.settled(lambda: sum(rule.hits for rule in rules) == count)
            await trio.testing.wait_all_tasks_blocked()

        client = await running.connect()
        for n, request in enumerate([produce_request(), produce_request(), HeartbeatRequest(), long_poll]):
            version = 4 if isinstance(request, HeartbeatRequest) else 12
            await client.send(frame(request, version, n))
            await waits(n + 1)
            assert client.answers.data == b""
            running.clock.advance(31, sessions=True)
            if isinstance(request, FetchRequest):
                await running.settled(lambda: running.server.statistics().parked == 1)
                running.apis.parks[0].finish(b"")
            kind = [ProduceResponse, ProduceResponse, HeartbeatResponse, FetchResponse][n]
            correlation_id, body = await client.receive(kind, version)
            assert correlation_id == n
            if n < 2:
                code = body.responses[0].partition_responses[0].error_code
                assert code == (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NONE)[n]
        faults.clear()
        rules.append(faults.add(Fault(delay_s=30.0, drop=True)))
        await client.send(API_VERSIONS)
        await waits(5)
        running.clock.advance(31, sessions=True)
        assert await client.ends() == b""


async def test_drain() -> None:
    """Idle ones are closed, long polls answered at once, handlers waited for, nothing accepted any more."""
    async with serving() as running:
        go = trio.Event()

        async def on_heartbeat(request: HeartbeatRequest) -> HeartbeatResponse:
            await go.wait()
            return HeartbeatResponse(throttle_time_ms=9)

        running.apis.on_heartbeat = on_heartbeat
        idle, parked, busy, partial = [await running.connect() for _ in range(4)]
        await parked.send(frame(FetchRequest(max_wait_ms=60_000), 12, 1))
        await busy.send(frame(HeartbeatRequest(), 4, 2))
        await partial.send(API_VERSIONS[:-1])
        await running.settled(lambda: len(running.apis.handled) == 2)
        await running.settled(lambda: running.server.statistics().connections == 4)
        drained = trio.Event()

        async def drain() -> None:
            await running.server.drain(running.clock.monotonic() + 60)
            drained.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            assert (await parked.receive(FetchResponse, 12))[0] == 1
            assert await parked.ends() == b""
            assert await idle.ends() == b""
            assert await partial.ends() == b""
            with pytest.raises(OSError, match="connect"):
                await running.connect()
            assert not drained.is_set()
            go.set()
            assert (await busy.receive(HeartbeatResponse, 4))[1].throttle_time_ms == 9
            await drained.wait()
        assert running.server.statistics().connections == 0


async def test_drain_cuts_off_at_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as running:

        async def on_heartbeat(request: HeartbeatRequest) -> HeartbeatResponse:
            await trio.sleep_forever()
            raise AssertionError

        running.apis.on_heartbeat = on_heartbeat
        client = await running.connect()
        await client.send(frame(HeartbeatRequest(), 4, 2))
        await running.settled(lambda: len(running.apis.handled) == 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.server.drain, running.clock.monotonic() + 60)
            await trio.testing.wait_all_tasks_blocked()
            running.clock.advance(61, sessions=True)
        assert await client.ends() == b""
    assert "cut off connections that were still busy count=1" in caplog.text


async def test_several_listeners_and_trio_s() -> None:
    server = Server(NO_SERVICES, FakeApis().table(), ServerLimits(), running_clock())
    first = socket.create_server(("127.0.0.1", 0))
    (second,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, [first, second])
        assert len({port for _, port in addresses}) == 2
        for address in addresses:
            async with await trio.open_tcp_stream(*address) as stream:
                await stream.send_all(API_VERSIONS)
                assert await stream.receive_some()
        await server.drain(math.inf)


def running_clock() -> MovableClock:

    return MovableClock()


async def test_drain_before_serve() -> None:
    server = Server(NO_SERVICES, FakeApis().table(), ServerLimits(), running_clock())
    await server.drain(0.0)
    with trio.fail_after(20):
        await server.serve([socket.create_server(("127.0.0.1", 0))])


async def test_out_of_descriptors(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The listener waits and goes on."""
    failures = [OSError(errno.ECONNABORTED, "left"), OSError(errno.EMFILE, "too many open files")]
    accept = socket.socket.accept

    def failing_accept(self: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop(0)
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", failing_accept)
    async with serving() as running:
        client = await running.connect()
        await client.send(API_VERSIONS)
        await client.receive(ApiVersionsResponse, 0)
    assert "cannot accept a connection" in caplog.text
