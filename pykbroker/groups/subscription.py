"""The topics in a consumer's subscription (protocol type ``consumer``), as far as a broker looks.

Layout: version int16, topics array of strings, then what later versions added.  Version 0 is the
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


def topics(metadata: bytes) -> frozenset[str] | None:
    """The subscribed topics, or None when these bytes are not a subscription."""
    try:
        version, count = _HEAD.unpack_from(metadata)
        if version < 0 or count < 0 or count > len(metadata):
            return None
        found, position = set(), _HEAD.size
        for _ in range(count):
            (size,) = _SHORT.unpack_from(metadata, position)
            position += _SHORT.size
            if size < 0 or position + size > len(metadata):
                return None
            found.add(metadata[position : position + size].decode())
            position += size
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
