"""What is in a ``.log`` file, batch by batch: also what a reader would not be given.

Goes by each batch's stated length, and past bytes that cannot be a batch to the next good one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pykbroker.log.files import Files
from pykbroker.log.scan import Limits, Source, scan
from pykbroker.records.batch import HEADER_SIZE, BatchError, BatchHeader, crc_ok, read_header


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes ``position`` to ``position + size`` of a file: a batch, or why they are none (``fault``)."""

    position: int
    size: int
    header: BatchHeader | None
    data: bytes
    """The batch's bytes; empty where there is none."""
    fault: str = ""

    @property
    def crc_ok(self) -> bool:
        """Whether the batch's CRC verifies."""
        return bool(self.data) and crc_ok(self.data)


def pieces(path: Path) -> Iterator[Piece]:
    """The whole file, piece by piece, in order.  Raises :class:`OSError`."""
    files = Files()
    fd = files.open(path, 0)
    try:
        source = Source(files, fd, files.size(fd))
        position = 0
        while position < source.size:
            piece = _piece_at(source, position)
            yield piece
            position += piece.size
    finally:
        files.close(fd)


def _piece_at(source: Source, position: int) -> Piece:
    left = source.size - position
    try:
        header = read_header(source.view(position, HEADER_SIZE))
    except BatchError:
        pass
    else:
        if header.size <= left:
            return Piece(position, header.size, header, bytes(source.view(position, header.size)))
    result = scan(
        source,
        Limits(segment=0, sealed=True),
        start=position,
        expected=0,
        on_batch=lambda _position, _header: None,
        stop_behind=position,
    )
    if result.holes:
        hole = result.holes[0]
        return Piece(position, hole.end_position - position, None, b"", hole.reason)
    return Piece(position, left, None, b"", result.torn or "no batch")
