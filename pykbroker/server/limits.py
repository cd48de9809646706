"""What a server allows: every buffer and count that a peer could make grow has its ceiling here."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Ceilings of one server; the defaults are Kafka's where Kafka has the setting."""

    max_request_bytes: int = 100 * MIB
    """``socket.request.max.bytes``: a frame that says more closes its connection."""

    max_plain_request_bytes: int = 16 * MIB
    """The same for requests without record bytes (all but Produce).  They are decoded into objects, at up
    to 40 times their size; the largest honest one (OffsetCommit of 100,000 partitions) has 6 MiB."""

    max_connections: int = 10_000
    """Open connections, over all listeners; a further one is closed at once."""

    max_buffered_bytes: int = 1024 * MIB
    """Request bytes held by all connections together (Kafka: ``queued.max.request.bytes``); above it the
    connections that want more wait, and are closed after :attr:`memory_wait_s`."""

    memory_wait_s: float = 10.0
    """How long a connection waits for its turn when ``max_buffered_bytes`` is reached."""

    max_parked_bytes: int = 64 * KIB
    """Bytes of further requests that are read from a connection whose request is still waiting."""

    max_answer_bytes: int = 256 * KIB
    """Answers that are collected for one send; beyond it they leave before the next request is taken."""

    max_frames_per_turn: int = 64
    """Requests of one connection that are handled before the others get a turn (about 1 ms)."""

    idle_timeout_s: float = 600.0
    """``connections.max.idle.ms``: a connection on which nothing moved for so long is closed."""

    sendfile: bool = True
    """Send record bytes from their file where the system can; false forces the portable path."""
