"""What a server allows: every buffer and count that a peer could make grow has its ceiling here."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pykbroker.config import BrokerConfig

KIB, MIB = 1024, 1024 * 1024
UNLIMITED = sys.maxsize


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Ceilings of one server.  Where a setting is named, it sets the field."""

    max_request_bytes: int = 100 * MIB
    """``socket.request.max.bytes``: a frame that says more closes its connection."""

    max_plain_request_bytes: int = 16 * MIB
    """``pykbroker.max.plain.request.bytes``: the same for requests without record bytes (all but
    Produce).  They are decoded into objects, at up to 40 times their size; the largest honest one
    (OffsetCommit of 100,000 partitions) has 6 MiB."""

    max_connections: int = 10_000
    """``max.connections``: open over all listeners; a further one is closed at once."""

    max_connections_per_ip: int = 2**31 - 1
    """``max.connections.per.ip``: open from one address; a further one is closed at once, as in Kafka."""

    max_buffered_bytes: int = 1024 * MIB
    """``queued.max.request.bytes``: request bytes held by all connections together; above it the
    connections that want more wait, and are closed after :attr:`memory_wait_s`."""

    memory_wait_s: float = 10.0
    """``pykbroker.queued.max.wait.ms``: how long a connection waits for its turn when
    ``max_buffered_bytes`` is reached."""

    max_parked_bytes: int = 64 * KIB
    """``pykbroker.connection.max.inflight.bytes``: bytes of further requests that are read from a
    connection whose request is still waiting."""

    max_answer_bytes: int = 256 * KIB
    """Answers that are collected for one send; beyond it they leave before the next request is taken."""

    max_frames_per_turn: int = 64
    """Requests of one connection that are handled before the others get a turn (about 1 ms)."""

    idle_timeout_s: float = 600.0
    """``connections.max.idle.ms``: a connection on which nothing moved for so long is closed."""

    send_buffer_bytes: int = -1
    """``socket.send.buffer.bytes``; -1 leaves it to the system, which fits it to the connection."""

    receive_buffer_bytes: int = -1
    """``socket.receive.buffer.bytes``; likewise."""

    sendfile: bool = True
    """Send record bytes from their file where the system can; false forces the portable path."""

    @classmethod
    def of(cls, config: BrokerConfig) -> ServerLimits:
        """The limits that ``config`` sets."""
        idle_ms, queued = config.connections_max_idle_ms, config.queued_max_request_bytes
        return cls(
            max_request_bytes=config.socket_request_max_bytes,
            max_plain_request_bytes=config.pykbroker_max_plain_request_bytes,
            max_connections=config.max_connections,
            max_connections_per_ip=config.max_connections_per_ip,
            max_buffered_bytes=UNLIMITED if queued < 0 else queued,
            memory_wait_s=config.pykbroker_queued_max_wait_ms / 1000,
            max_parked_bytes=config.pykbroker_connection_max_inflight_bytes,
            idle_timeout_s=math.inf if idle_ms < 0 else idle_ms / 1000,
            send_buffer_bytes=config.socket_send_buffer_bytes,
            receive_buffer_bytes=config.socket_receive_buffer_bytes,
        )
