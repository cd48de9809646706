"""Bytes in, frames out, however they are cut; memory follows what was received."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.protocol.errors import ProtocolError
from pykbroker.server.framing import FIRST_GROWTH, IN_PLACE, FrameBuffer

LIMIT = 100 * 1024 * 1024


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def taken(frames: FrameBuffer) -> list[bytes]:
    found = []
    while (frame := frames.next_frame()) is not None:
        found.append(bytes(frame))
    return found


def receive(frames: FrameBuffer, data: bytes, most: int) -> int:
    """One read as a driver does it: in place if asked to, else fed; the bytes used."""
    target = frames.in_place()
    if target is None:
        frames.feed(data[:most])
        return min(most, len(data))
    count = min(len(target), len(data), most)
    target[:count] = data[:count]
    frames.advance(count)
    return count


@given(
    sizes=st.lists(st.one_of(st.integers(0, 40), st.integers(IN_PLACE - 6, IN_PLACE + 6)), max_size=6),
    cuts=st.lists(st.integers(1, 50_000), min_size=1, max_size=5),
    in_place=st.booleans(),
)
def test_frames_come_out_as_they_went_in(sizes: list[int], cuts: list[int], in_place: bool) -> None:
    bodies = [bytes([index + 1]) * size for index, size in enumerate(sizes)]
    data = b"".join(map(framed, bodies))
    frames, found, turn = FrameBuffer(LIMIT), [], 0
    while data:
        most = cuts[turn % len(cuts)]
        turn += 1
        if in_place:
            used = receive(frames, data, most)
        else:
            frames.feed(data[:most])
            used = most
        data = data[used:]
        found += taken(frames)
    assert found == bodies
    assert frames.held == 0


def test_byte_by_byte() -> None:
    frames, found = FrameBuffer(LIMIT), []
    for byte in framed(b"one") + framed(b"") + framed(b"three"):
        frames.feed(bytes([byte]))
        found += taken(frames)
    assert found == [b"one", b"", b"three"]


def test_frames_stay_valid_and_writable() -> None:
    """Records are patched where they lie, after further reads."""
    frames = FrameBuffer(LIMIT)
    frames.feed(framed(b"first") + framed(b"second"))
    first, second = frames.next_frame(), frames.next_frame()
    assert first is not None
    assert second is not None
    frames.feed(framed(b"third"))
    first[0:1] = b"F"
    assert (bytes(first), bytes(second)) == (b"First", b"second")


def test_large_frame_is_received_in_place() -> None:
    frames = FrameBuffer(LIMIT)
    body = bytes(range(256)) * 4096
    data = framed(body)
    frames.feed(data[:10])
    assert frames.in_place() is not None
    position = 10
    while position < len(data):
        position += receive(frames, data[position:], 100_000)
    assert frames.in_place() is None
    assert taken(frames) == [body]
    assert frames.held == 0


def test_a_promised_size_is_not_allocated() -> None:
    """100 MiB announced: 128 KB held, and at most four times what was received from then on."""
    frames = FrameBuffer(LIMIT)
    frames.feed(LIMIT.to_bytes(4, "big"))
    assert frames.in_place() is not None
    assert frames.held <= FIRST_GROWTH
    received = 4
    for _ in range(40):
        target = frames.in_place()
        assert target is not None
        received += len(target[:50_000])
        frames.advance(len(target[:50_000]))
        assert frames.held <= max(FIRST_GROWTH, 4 * received)


def test_asking_twice_where_to_receive() -> None:
    """A read that brought nothing: the next one asks again."""
    frames = FrameBuffer(LIMIT)
    frames.feed((300_000).to_bytes(4, "big"))
    for _ in range(3):
        assert frames.in_place() is not None
    data = bytes(300_000)
    while data:
        data = data[receive(frames, data, 70_000) :]
    assert taken(frames) == [bytes(300_000)]


@pytest.mark.parametrize("length", [-1, -(2**31), LIMIT + 1, 2**31 - 1])
def test_bad_length(length: int) -> None:
    """The frames before it count; nothing behind it does."""
    frames = FrameBuffer(LIMIT)
    frames.feed(framed(b"good") + length.to_bytes(4, "big", signed=True) + framed(b"late"))
    assert frames.has_frame
    good = frames.next_frame()
    assert good is not None
    assert bytes(good) == b"good"
    assert frames.has_frame
    for _ in range(2):
        with pytest.raises(ProtocolError, match=f"frame length {length}, allowed: 0 to {LIMIT}"):
            frames.next_frame()
    frames.feed(framed(b"later"))
    with pytest.raises(ProtocolError):
        frames.next_frame()


def test_held_counts_waiting_frames_and_rests() -> None:
    frames = FrameBuffer(LIMIT)
    frames.feed(framed(b"x" * 50) + framed(b"y" * 30)[:20])
    assert frames.held == 70
    frames.next_frame()
    assert frames.held == 20
