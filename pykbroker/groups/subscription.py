"""The topics in what a consumer subscribes to and is assigned (protocol type ``consumer``).

Layout of a subscription: version int16, topics array of strings, then what later versions added; of an
assignment: version, array of a topic with an array of partitions int32, then more.  Version 0 is the
prefix of all versions, so no more of it is read.  These bytes come from clients: anything may be in
them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

CONSUMER = "consumer"
"""The protocol type of consumer groups."""

_HEAD = struct.Struct(">hi")
_SHORT = struct.Struct(">h")
_INT = struct.Struct(">i")


def topics(metadata: bytes) -> frozenset[str] | None:
    """The subscribed topics, or None when these bytes are not a subscription."""
    return _topics(metadata, partitions=False)


def assigned_topics(assignment: bytes) -> frozenset[str] | None:
    """The topics with partitions assigned, or None when these bytes are not an assignment."""
    return _topics(assignment, partitions=True)


def _topics(data: bytes, *, partitions: bool) -> frozenset[str] | None:
    try:
        version, count = _HEAD.unpack_from(data)
        if version < 0 or count < 0 or count > len(data):
            return None
        found, position = set(), _HEAD.size
        for _ in range(count):
            (size,) = _SHORT.unpack_from(data, position)
            position += _SHORT.size
            if size < 0 or position + size > len(data):
                return None
            found.add(data[position : position + size].decode())
            position += size
            if partitions:
                (several,) = _INT.unpack_from(data, position)
                position += _INT.size + several * _INT.size
                if several < 0 or position > len(data):
                    return None
    except (struct.error, UnicodeDecodeError):
        return None
    return frozenset(found)


def all_topics(subscriptions: Iterable[bytes]) -> frozenset[str] | None:
    """The topics of all members, or None when one of them cannot be read."""
    found: frozenset[str] = frozenset()
    for metadata in subscriptions:
        mine = topics(metadata)
        if mine is None:
            return None
        found |= mine
    return found
