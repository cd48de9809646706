"""Sending answers on a non-blocking socket, with record bytes straight from their files.

The bytes in front of a region leave with MSG_MORE, so that they share a packet with it; the region
follows by ``sendfile``, without passing through this process.  Where that cannot be had (another
platform, a file system without it, or when told so) the region is read and sent in pieces.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

import trio

from pykbroker.protocol.codec import Regions
from pykbroker.protocol.schema import FileRegion

MORE = getattr(socket, "MSG_MORE", 0)
PIECE = 1024 * 1024
"""Bytes of one sendfile, or of one portable read: enough to make the call's price vanish."""

NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


class RegionError(Exception):
    """A region cannot be read to its end: the answer that announced it cannot be finished."""


Progress = Callable[[], None]
"""Called whenever the peer has made room for more."""


async def send_answers(
    sock: socket.socket, out: bytearray, regions: Regions, *, sendfile: bool, progress: Progress
) -> int:
    """Send ``out`` with ``regions`` put in where they belong, and empty both; the number of bytes sent.

    Raises OSError if the peer is gone, RegionError if a file has less than was announced.
    """
    if not regions:
        sent = _send_now(sock, out)
        if sent < len(out):
            with memoryview(out) as view:
                await _send_all(sock, view[sent:], 0, progress)
        total = len(out)
        out.clear()
        return total
    total, position = len(out), 0
    with memoryview(out) as view:
        for start, region in regions:
            await _send_all(sock, view[position:start], MORE, progress)
            await _send_region(sock, region, progress, sendfile=sendfile)
            position, total = start, total + region.size
        await _send_all(sock, view[position:], 0, progress)
    out.clear()
    regions.clear()
    return total


def _send_now(sock: socket.socket, data: bytearray) -> int:
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0


async def _send_all(sock: socket.socket, data: memoryview, flags: int, progress: Progress) -> None:
    while data:
        try:
            data = data[sock.send(data, flags) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
            progress()


async def _send_region(
    sock: socket.socket, region: FileRegion, progress: Progress, *, sendfile: bool
) -> None:
    position, end = region.position, region.position + region.size
    while sendfile and position < end:
        try:
            count = os.sendfile(sock.fileno(), region.fd, position, min(PIECE, end - position))
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
            progress()
            continue
        except OSError as error:
            if error.errno in NOT_SUPPORTED and position == region.position:
                break
            raise
        position += _some(count, region)
    while position < end:
        piece = os.pread(region.fd, min(PIECE, end - position), position)
        await _send_all(sock, memoryview(piece), MORE, progress)
        position += _some(len(piece), region)


def _some(count: int, region: FileRegion) -> int:
    if not count:
        raise RegionError(f"{region!r} ends early in its file")
    return count
