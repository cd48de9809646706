"""Counters of a server, and the frozen snapshot that is handed out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """What a server has done since it was made, and what it holds now."""

    connections: int
    """Open now."""
    accepted: int
    refused: int
    """Closed at once, because as many were open as may be."""
    closed_idle: int
    closed_malformed: int
    """Closed because the client sent what is no request we serve."""
    closed_memory: int
    """Closed because all connections together held ``max_buffered_bytes``."""
    requests: int
    failures: int
    """Requests whose handler raised something other than a Kafka error."""
    parked: int
    """Requests that wait for data now."""
    buffered_bytes: int
    """Request bytes held now."""
    bytes_in: int
    bytes_out: int
