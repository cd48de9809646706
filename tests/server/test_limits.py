"""Limits from settings."""

from __future__ import annotations

import math
import sys
from dataclasses import fields

import pytest

from pykbroker.config import BrokerConfig
from pykbroker.server import ServerLimits


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("socket.request.max.bytes=5", "max_request_bytes", 5),
        ("pykbroker.max.plain.request.bytes=2048", "max_plain_request_bytes", 2048),
        ("max.connections=7", "max_connections", 7),
        ("max.connections.per.ip=3", "max_connections_per_ip", 3),
        ("queued.max.request.bytes=9", "max_buffered_bytes", 9),
        ("queued.max.request.bytes=-1", "max_buffered_bytes", sys.maxsize),
        ("pykbroker.queued.max.wait.ms=1500", "memory_wait_s", 1.5),
        ("pykbroker.connection.max.inflight.bytes=6", "max_parked_bytes", 6),
        ("connections.max.idle.ms=2500", "idle_timeout_s", 2.5),
        ("connections.max.idle.ms=-1", "idle_timeout_s", math.inf),
        ("socket.send.buffer.bytes=4096", "send_buffer_bytes", 4096),
        ("socket.receive.buffer.bytes=4097", "receive_buffer_bytes", 4097),
    ],
)
def test_each_setting_sets_its_field(setting: str, field: str, value: float) -> None:
    plain, other = ServerLimits.of(BrokerConfig()), ServerLimits.of(BrokerConfig.load(sets=[setting]))
    assert getattr(other, field) == value
    changed = {f.name for f in fields(ServerLimits) if getattr(plain, f.name) != getattr(other, f.name)}
    assert changed == {field}
