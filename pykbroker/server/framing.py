"""Bytes in, whole frames out: sans-IO, with memory that grows only with what was received.

A read's bytes are copied once, into a bytearray of their own, and the frames are slices of it: they stay
valid, and writable, for as long as somebody holds them.  What is left at the end of a read is kept until
the rest comes.  A frame of 32 KB or more is received in place instead (:meth:`FrameBuffer.in_place`), into
a buffer that starts small and grows by a factor: a length is only a promise.
"""

from __future__ import annotations

from collections import deque

from pykbroker.protocol.errors import ProtocolError

IN_PLACE = 32 * 1024
"""Frames from this size on are received in place: copying them would cost more than a second recv."""

FIRST_GROWTH = 128 * 1024
GROWTH = 4
"""A large frame's buffer starts with 128 KB and grows fourfold, up to the announced size."""

LENGTH = 4


class FrameBuffer:
    """The receiving half of a connection.

    Feed it with :meth:`feed`, or receive into :meth:`in_place` and tell :meth:`advance`; take whole frames
    (without their length) with :meth:`next_frame`.
    """

    __slots__ = (
        "_broken",
        "_capacity_view",
        "_filled",
        "_frames",
        "_large",
        "_limit",
        "_need",
        "_rest",
        "held",
    )

    def __init__(self, limit: int) -> None:
        """``limit``: the largest frame in bytes."""
        self._limit = limit
        self._frames: deque[memoryview] = deque()
        self._rest = bytearray()
        """An incomplete small frame, its length included."""
        self._need = LENGTH
        """Bytes that ``_rest`` or ``_large`` will have when it says more: its length, or the whole frame."""
        self._large: bytearray | None = None
        self._filled = 0
        self._capacity_view: memoryview | None = None
        self._broken: ProtocolError | None = None
        self.held = 0
        """Bytes held: allocated for an incomplete frame, or waiting as whole frames."""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take what was received; ``data`` is copied."""
        if self._broken is not None:
            return
        if self._large is not None:
            taken = min(len(data), self._need - self._filled)
            while taken:
                with self.in_place() as target:  # type: ignore[union-attr]  # there is a large frame
                    step = min(taken, len(target))
                    target[:step] = data[:step]
                self.advance(step)
                data, taken = data[step:], taken - step
            if not data:
                return
        if self._rest:
            self._rest += data
            self.held += len(data)
            if len(self._rest) < self._need:
                return
            chunk, self._rest = self._rest, bytearray()
            self.held -= len(chunk)
        else:
            chunk = bytearray(data)
        self._cut(chunk)

    def _cut(self, chunk: bytearray) -> None:
        """Take the whole frames out of ``chunk``, keep the rest."""
        view, position, end = memoryview(chunk), 0, len(chunk)
        frames = self._frames
        while end - position >= LENGTH:
            size = int.from_bytes(view[position : position + LENGTH], "big", signed=True)
            if not 0 <= size <= self._limit:
                self._broken = ProtocolError(f"frame length {size}, allowed: 0 to {self._limit}")
                return
            stop = position + LENGTH + size
            if stop > end:
                self._keep(view[position:], LENGTH + size)
                return
            frames.append(view[position + LENGTH : stop])
            self.held += size
            position = stop
        if position < end:
            self._keep(view[position:], LENGTH)

    def _keep(self, rest: memoryview, need: int) -> None:
        self._need = need
        if need < IN_PLACE:
            self._rest = bytearray(rest)
            self.held += len(rest)
            return
        self._large = bytearray(max(len(rest), min(need, FIRST_GROWTH)))
        self._large[: len(rest)] = rest
        self._filled = len(rest)
        self.held += len(self._large)

    def in_place(self) -> memoryview | None:
        """Where to receive next, if a large frame is incomplete; then call :meth:`advance`."""
        if self._large is None:
            return None
        self._release_view()
        if self._filled == len(self._large):
            grown = min(self._need, len(self._large) * GROWTH)
            self.held += grown - len(self._large)
            self._large += bytes(grown - len(self._large))
        self._capacity_view = memoryview(self._large)[self._filled :]
        return self._capacity_view

    def advance(self, count: int) -> None:
        """``count`` bytes were received into :meth:`in_place`."""
        assert self._large is not None
        self._release_view()
        self._filled += count
        if self._filled == self._need:
            self.held -= LENGTH
            self._frames.append(memoryview(self._large)[LENGTH:])
            self._large, self._filled, self._need = None, 0, LENGTH

    def _release_view(self) -> None:
        """A bytearray cannot grow while somebody has a view of it."""
        if self._capacity_view is not None:
            self._capacity_view.release()
            self._capacity_view = None

    def next_frame(self) -> memoryview | None:
        """The next whole frame, or None; ProtocolError once the frames before a bad length are taken."""
        if self._frames:
            frame = self._frames.popleft()
            self.held -= len(frame)
            return frame
        if self._broken is not None:
            raise self._broken
        return None

    @property
    def has_frame(self) -> bool:
        """Whether :meth:`next_frame` has something to say."""
        return bool(self._frames) or self._broken is not None
