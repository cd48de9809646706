"""One commit that has something to do with nacks, as the lane that follows commits takes it up.

Most are done in one step.  What is left of a large one, or one whose topics cannot be made now, stands
aside as a small value of the lane, so that neither the lane nor compaction of the commits waits for it; so
do later commits for the same partition, because their order counts.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pykbroker.delivery.counted import Holder
from pykbroker.delivery.nacks import Ranges

PREFIX: Final = b"A"
"""The first byte of the names of these small values."""

_NAME = struct.Struct(">cq")


class OrderKind(StrEnum):
    """What a commit asks for, or does without asking."""

    NACK = "nack"
    REPLAY = "replay"
    PURGE = "purge"
    REWIND = "rewind"
    """The group goes on at ``offset``: nothing from there on counts any more."""
    FORGET = "forget"
    """The group's offset is gone, and with it what counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """``commit`` is the offset of its record, ``offset`` what it commits, ``ranges`` what is left to do."""

    commit: int
    kind: OrderKind
    holder: Holder
    offset: int = -1
    ranges: Ranges = ()
    reason: str = ""
    to: str | None = None
    rate: float | None = None

    @property
    def name(self) -> bytes:
        """The name of the small value."""
        return _NAME.pack(PREFIX, self.commit)

    def encode(self) -> bytes:
        """The small value."""
        group, topic_id, partition = self.holder
        fields = {
            "kind": self.kind,
            "group": group,
            "topic_id": topic_id.hex(),
            "partition": partition,
            "offset": self.offset,
            "ranges": self.ranges,
            "reason": self.reason,
            "to": self.to,
            "rate": self.rate,
        }
        return json.dumps(fields, separators=(",", ":")).encode()


def decode(name: bytes, value: bytes) -> Order:
    """What :meth:`Order.encode` wrote."""
    _, commit = _NAME.unpack(name)
    fields = json.loads(value)
    return Order(
        commit=commit,
        kind=OrderKind(fields["kind"]),
        holder=Holder(fields["group"], bytes.fromhex(fields["topic_id"]), fields["partition"]),
        offset=fields["offset"],
        ranges=tuple((first, last) for first, last in fields["ranges"]),
        reason=fields["reason"],
        to=fields["to"],
        rate=fields["rate"],
    )
