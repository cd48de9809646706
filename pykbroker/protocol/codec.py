"""Readers and writers of messages, compiled per (message, version) on first use.

>>> data = encode(HeartbeatRequest(group_id="g"), 4)
>>> decode(HeartbeatRequest, 4, data).group_id
'g'

Input is not trusted: whatever the bytes, a reader returns a message or raises
:class:`~pykbroker.protocol.errors.ProtocolError`, and allocates in proportion to the bytes given.
Bytes behind the message are ignored, as Kafka ignores them.  Record bytes are slices of the buffer
that was read (no copy); all other values are copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from pykbroker.protocol.schema import FileRegion, Message

M = TypeVar("M", bound=Message)

Regions = list[tuple[int, FileRegion]]
"""Record bytes that stay in files: (position in the output where they belong, region)."""

Reader = Callable[[memoryview, int], tuple[M, int]]
Writer = Callable[[M, bytearray, Regions], None]

_readers: dict[tuple[type[Message], int], Reader[Message]] = {}
_writers: dict[tuple[type[Message], int], Writer[Message]] = {}


def reader(cls: type[M], version: int) -> Reader[M]:
    """The function that reads a ``cls`` of ``version``: ``(buffer, position) -> (message, position behind)``.

    Raises ValueError if there is no such version; the function raises ProtocolError.
    """
    found = _readers.get((cls, version))
    if found is None:
        from pykbroker.protocol._read_source import ReaderSource

        _check_version(cls, version)
        source = ReaderSource(cls, version)
        found = cast("Reader[Message]", _compile(source.build(), source.names, cls, version, "read"))
        _readers[cls, version] = found
    return cast("Reader[M]", found)


def writer(cls: type[M], version: int) -> Writer[M]:
    """The function that appends a ``cls`` in ``version`` to a bytearray, and its regions to a list.

    A field that the version does not carry is left out, whatever its value.
    """
    found = _writers.get((cls, version))
    if found is None:
        from pykbroker.protocol._write_source import WriterSource

        _check_version(cls, version)
        source = WriterSource(cls, version)
        found = cast("Writer[Message]", _compile(source.build(), source.names, cls, version, "write"))
        _writers[cls, version] = found
    return cast("Writer[M]", found)


def decode(cls: type[M], version: int, data: bytes | bytearray | memoryview) -> M:
    """The message at the start of ``data``; raises ProtocolError."""
    return reader(cls, version)(memoryview(data), 0)[0]


def encode(message: Message, version: int) -> bytes:
    """``message`` in ``version``; for messages without FileRegions (ValueError otherwise)."""
    out, regions = bytearray(), Regions()
    writer(type(message), version)(message, out, regions)
    if regions:
        raise ValueError(f"{type(message).__name__} has record bytes in a file; use writer()")
    return bytes(out)


def _check_version(cls: type[Message], version: int) -> None:
    low, high = cls.message_versions
    if not low <= version <= high:
        raise ValueError(f"{cls.__name__} has versions {low} to {high}, not {version}")


def _compile(
    source: str, names: dict[str, object], cls: type[Message], version: int, function: str
) -> object:
    exec(compile(source, f"<{cls.__name__} v{version} {function}>", "exec"), names)
    return names[function]
