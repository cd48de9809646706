"""Topics out of what consumers send, whatever it is."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from pykbroker.groups.subscription import assigned_topics, topics


def named(topic: str) -> bytes:
    return struct.pack(">h", len(topic)) + topic.encode()


def test_a_subscription() -> None:
    data = struct.pack(">hi", 3, 2) + named("orders") + named("orders.billing.retry") + b"\xff\xff\xff\xff"
    assert topics(data) == frozenset({"orders", "orders.billing.retry"})
    assert topics(data[:15]) is None
    assert topics(b"") is None


def test_an_assignment() -> None:
    data = struct.pack(">hi", 0, 2)
    data += named("orders") + struct.pack(">3i", 2, 0, 1) + named("eu") + struct.pack(">2i", 1, 0)
    assert assigned_topics(data + struct.pack(">i", -1)) == frozenset({"orders", "eu"})
    assert assigned_topics(data[:-1]) is None
    assert assigned_topics(struct.pack(">hi", 0, 1) + named("t") + struct.pack(">i", -1)) is None


@given(st.binary(max_size=40))
def test_bytes_of_any_kind(data: bytes) -> None:
    topics(data)
    assigned_topics(data)
