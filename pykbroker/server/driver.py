"""Drives one connection's core with a non-blocking socket in one trio task.

Concurrency only: receive, let the core handle, send, wait.  The task owns the socket and closes it; the
server may close it earlier (:meth:`Driver.close`: idle, or draining with nothing in flight), which ends
the task.  A client that leaves while its request waits is noticed: what waits for data or for other
clients is given up, everything else is carried through, and so is what it sent before it left (a
LeaveGroup behind a JoinGroup).  Swallowed: errors of a peer that is gone (ConnectionError, timeouts),
logged at debug level.  Everything else that goes wrong with a connection ends it with one warning.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable

import trio

from pykbroker.protocol.errors import ProtocolError
from pykbroker.protocol.schema import Message
from pykbroker.server.connection import Connection
from pykbroker.server.dispatch import Call, Peer
from pykbroker.server.hub import Hub, LimitedLog
from pykbroker.server.sending import RegionError, send_answers
from pykbroker.server.waiting import Waiting

log = logging.getLogger(__name__)

GONE = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOTCONN, errno.EPIPE})
RECEIVES = 8
"""Reads in a row into a large frame before others get a turn."""


class Driver:
    """One connection: its socket, its core, and what its task is doing."""

    __slots__ = (
        "_core", "_gone", "_held", "_hub", "_sock", "_waiting", "_warnings", "busy", "ended", "last_active",
    )  # fmt: skip

    def __init__(self, hub: Hub, sock: socket.socket, core: Connection, warnings: LimitedLog) -> None:
        self._hub = hub
        self._sock = sock
        self._core = core
        self._warnings = warnings
        self._held = 0
        self._waiting: Waiting | None = None
        self._gone = False
        """The client has left: answers are thrown away, and nothing more is received."""
        self.busy = False
        """Whether a request waits for its handler; such a connection is not idle."""
        self.ended = ""
        """Why the connection ended, if neither the client nor a stop of the broker ended it."""
        self.last_active = hub.clock.monotonic()

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        return self._core.peer

    def close(self) -> None:
        """Close the socket; the task ends."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    def drain(self) -> None:
        """Answer what is in flight, then end: a long poll at once, a partial request never."""
        if self._waiting is not None:
            self._waiting.expire()
        elif not self.busy and not self._core.has_frame and self._core.nothing_to_send:
            self.close()

    async def run(self) -> None:
        """Serve the connection until either side closes it."""
        try:
            while await self._receive():
                await self._answer()
                if self._gone or self._core.closing or self._hub.draining:
                    break
        except trio.ClosedResourceError:
            pass  # closed by the server
        except RegionError as error:
            self._warn(error)
        except OSError as error:
            if self._is_gone(error):
                log.debug("connection lost peer=%s error=%r", self._core.peer.host, error)
            else:
                self._warn(error)
        finally:
            self._hub.account(-self._held)
            self.close()
            if isinstance(self._core.reason, ProtocolError):
                self._hub.closed_malformed += 1
                self._warn(self._core.reason)

    def _is_gone(self, error: OSError) -> bool:
        return isinstance(error, ConnectionError) or error.errno in GONE or self._sock.fileno() < 0

    def _warn(self, reason: Exception) -> None:
        self.ended = str(reason)
        self._warnings.warning("closed a connection peer=%s reason=%s", self._core.peer.host, reason)

    # -- receiving --------------------------------------------------------------------------------

    async def _receive(self) -> bool:
        """Wait for bytes and take them; false when the client has closed."""
        if self._hub.is_full and not await self._wait_memory():
            return False
        if self._sock.fileno() < 0:
            return False
        await trio.lowlevel.wait_readable(self._sock)
        for _ in range(RECEIVES):
            count = self._take()
            if not count:
                return False
            if count < 0 or self._core.has_frame or self._core.in_place() is None:
                break
        self._account()
        return True

    def _take(self) -> int:
        """One read without waiting: bytes taken, 0 when the client has closed, -1 if there was nothing."""
        target = self._core.in_place()
        try:
            if target is None:
                count = self._sock.recv_into(self._hub.buffer)
                self._core.feed(self._hub.buffer[:count])
            else:
                count = self._sock.recv_into(target)
                self._core.advance(count)
        except BlockingIOError:
            return -1
        self._hub.bytes_in += count
        return count

    async def _wait_memory(self) -> bool:
        """Wait for others to let go; who holds memory and gets no more in time has to give it back."""
        while not await self._hub.wait_memory():
            if self._core.held:
                self._hub.closed_memory += 1
                self._warn(RuntimeError("all connections together hold too many bytes"))
                return False
        return True

    def _account(self) -> None:
        held = self._core.held
        if held != self._held:
            self._hub.account(held - self._held)
            self._held = held

    # -- answering --------------------------------------------------------------------------------

    async def _answer(self) -> None:
        """Handle what has come, and send what it gave, until nothing is left to handle."""
        core, clock = self._core, self._hub.clock
        while True:
            now = self.last_active = clock.monotonic()
            call = core.process(clock.time_ms(), now)
            self._account()
            if core.peer.out:
                try:
                    await self._send()
                except BaseException:
                    if call is not None:
                        call.discard()
                    raise
            if call is not None:
                self.busy = True
                if self._gone and call.may_wait_long:
                    call.discard()
                    core.abandon()
                else:
                    await self._wait(call)
                self.busy = False
            elif not core.has_frame:
                break
            else:
                await trio.lowlevel.checkpoint()

    async def _send(self) -> None:
        peer = self._core.peer
        if self._gone:
            self._core.discard_answers()
            return
        self._hub.bytes_out += await send_answers(
            self._sock, peer.out, peer.regions, sendfile=self._hub.limits.sendfile, progress=self._progress
        )

    def _progress(self) -> None:
        """A slow reader has taken something: it is not idle."""
        self.last_active = self._hub.clock.monotonic()

    async def _wait(self, call: Call) -> None:
        """Wait for the answer to ``call`` and hand it to the core."""
        waiting: Waiting | None
        if isinstance(call.result, Waiting):
            waiting = call.result
        else:
            try:
                if call.may_wait_long:
                    answer = await self._while_connected(call.result)
                else:
                    answer = await call.result
            except Exception as error:  # noqa: BLE001  # a connection is one of the two boundaries for broad catches
                self._core.settle_failed(call, error)
                return
            if answer is None and self._gone:
                self._core.abandon()
                return
            if isinstance(answer, Message):
                self._core.settle(call, answer)
                return
            waiting = self._core.park(call, answer)
            if waiting is None:
                return
        await self._wait_parked(call, waiting)

    async def _while_connected(self, waits: Awaitable[object]) -> object:
        """What ``waits`` gives or raises; None, and it is cancelled, when the client leaves first."""
        answer: object = None
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            try:
                answer = await waits
            except Exception as error:  # noqa: BLE001  # raised again outside, where no group is around it
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return answer

    async def _watch(self, scope: trio.CancelScope) -> None:
        """Keep what the client sends meanwhile; cancel ``scope`` when it has left."""
        try:
            while await self._receive_more():
                pass
        except trio.ClosedResourceError:  # by the server; must not come out of the nursery as a group
            self._gone = True
        scope.cancel()

    async def _receive_more(self) -> bool:
        """Wait for bytes behind the request that waits, and keep them; false when the client has left."""
        if self._core.held - self._core.taken >= self._hub.limits.max_parked_bytes:
            await trio.sleep_forever()  # a client that sends on without its answer is not read from
        await trio.lowlevel.wait_readable(self._sock)
        try:
            self._gone = self._take() == 0
        except OSError as error:
            if not self._is_gone(error):
                self._warn(error)
            self._gone = True
        self._account()
        return not self._gone

    async def _wait_parked(self, call: Call, waiting: Waiting) -> None:
        timer = self._hub.timers.at(waiting.deadline, waiting.expire)
        self._hub.parked += 1
        self._waiting = waiting
        if self._hub.draining:
            waiting.expired = True
        try:
            while True:
                try:
                    answer = waiting.poll()
                except Exception as error:  # noqa: BLE001  # as above
                    self._core.settle_failed(call, error)
                    return
                if answer is not None:
                    self._core.settle(call, answer)
                    return
                if not await self._receive_while(waiting):
                    self._core.abandon()
                    return
        finally:
            self._waiting = None
            self._hub.parked -= 1
            timer.cancel()
            waiting.close()

    async def _receive_while(self, waiting: Waiting) -> bool:
        """Wait until ``waiting`` has news or bytes come (and are kept); false when the client has left."""
        with trio.CancelScope() as scope:
            waiting.notify = scope.cancel
            await self._receive_more()
        waiting.notify = None
        return not self._gone
