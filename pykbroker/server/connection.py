"""One connection, sans-IO: bytes in, answers out, in order.

The core knows nothing of sockets and never waits.  A driver

1. receives into :meth:`Connection.in_place` or :meth:`Connection.feed`,
2. calls :meth:`Connection.process`: all whole frames are handled, one after the other, and their answers
   collected in ``out`` (and ``regions``, for record bytes that stay in files),
3. sends what was collected,
4. if ``process`` returned a :class:`Call`, waits for its ``result`` (an awaitable, or a :class:`Waiting`
   for a parked answer), hands the answer to :meth:`Connection.settle`, and goes on with step 2.

No frame is handled while a call waits: requests on one connection are strictly sequential.
"""

from __future__ import annotations

from typing import cast

from pykbroker.apis._registry import Parked
from pykbroker.protocol.codec import Regions
from pykbroker.protocol.errors import ProtocolError
from pykbroker.protocol.schema import Message
from pykbroker.server.dispatch import Call, CloseConnection, Dispatcher, Peer
from pykbroker.server.framing import FrameBuffer
from pykbroker.server.limits import ServerLimits
from pykbroker.server.waiting import Waiting


class Connection:
    """The state of one connection; see the module's docstring for how it is driven."""

    __slots__ = ("_dispatcher", "_frames", "_limits", "closing", "peer", "reason", "taken")

    def __init__(
        self,
        dispatcher: Dispatcher,
        limits: ServerLimits,
        host: str,
        connection_id: int,
        listener: str = "",
    ) -> None:
        self._dispatcher = dispatcher
        self._limits = limits
        self._frames = FrameBuffer(limits.max_request_bytes)
        self.taken = 0
        """Bytes of the request that waits for its answer."""
        self.peer = Peer(host, connection_id, listener, bytearray(), Regions())
        self.closing = False
        """Nothing more is handled; close when what was collected has been sent."""
        self.reason: ProtocolError | CloseConnection | None = None
        """Why it is closing, if not because the client left."""

    @property
    def held(self) -> int:
        """Bytes of requests held, the one being handled included."""
        return self._frames.held + self.taken

    @property
    def has_frame(self) -> bool:
        """Whether :meth:`process` would have something to do."""
        return not self.closing and self._frames.has_frame

    @property
    def nothing_to_send(self) -> bool:
        """Whether all answers have been sent."""
        return not self.peer.out

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take received bytes (copied)."""
        self._frames.feed(data)

    def in_place(self) -> memoryview | None:
        """Where to receive the rest of a large frame; then call :meth:`advance`.  None: use :meth:`feed`."""
        return self._frames.in_place()

    def advance(self, count: int) -> None:
        """``count`` bytes were received in place."""
        self._frames.advance(count)

    def process(self, now_ms: int, now: float) -> Call | None:
        """Handle whole frames until one must wait, none is left, or enough answers are collected.

        Returns what the next answer waits for.  Afterwards ``closing`` may be set.
        """
        peer, limits = self.peer, self._limits
        try:
            for _ in range(limits.max_frames_per_turn):
                frame = self._frames.next_frame()
                if frame is None:
                    return None
                call = self._dispatcher.handle(frame, peer, now_ms, now)
                if call is not None:
                    self.taken = len(frame)
                    return call
                if peer.regions or len(peer.out) > limits.max_answer_bytes:
                    return None
        except (ProtocolError, CloseConnection) as error:
            self._close(error)
        return None

    def park(self, call: Call, parked: object) -> Waiting | None:
        """An awaited handler gave a parked answer; None if it could not be started (and is settled)."""
        try:
            # What is neither an answer nor awaitable is parked; if it is none, this fails like the handler.
            return Waiting(cast("Parked[Message]", parked))
        except Exception as error:  # noqa: BLE001  # a connection is one of the two boundaries
            self.settle_failed(call, error)
            return None

    def settle(self, call: Call, answer: object) -> None:
        """Collect the answer to ``call``."""
        self.taken = 0
        try:
            self._dispatcher.finish(call, answer, self.peer)
        except CloseConnection as error:
            self._close(error)

    def settle_failed(self, call: Call, error: Exception) -> None:
        """Collect the answer that says ``call`` failed."""
        self.taken = 0
        try:
            self._dispatcher.fail(call, error, self.peer)
        except CloseConnection as reason:
            self._close(reason)

    def abandon(self) -> None:
        """The client is gone: forget the call that waits.  Whole frames that it sent may still be handled."""
        self.taken = 0

    def discard_answers(self) -> None:
        """There is nobody to send them to."""
        self.peer.out.clear()
        self.peer.regions.clear()

    def _close(self, error: ProtocolError | CloseConnection) -> None:
        self.closing = True
        self.reason = error
