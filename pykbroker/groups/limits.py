"""What bounds a group, from the broker's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pykbroker.config import BrokerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLimits:
    """Times in milliseconds, sizes in members or bytes; Kafka's own names and defaults in brackets."""

    min_session_timeout_ms: int = 6_000
    """``group.min.session.timeout.ms``"""
    max_session_timeout_ms: int = 1_800_000
    """``group.max.session.timeout.ms``"""
    initial_rebalance_delay_ms: int = 0
    """``group.initial.rebalance.delay.ms`` (Kafka: 3000)"""
    max_size: int = 2_147_483_647
    """``group.max.size``"""
    offset_metadata_max_bytes: int = 4_096
    """``offset.metadata.max.bytes``"""
    offsets_retention_ms: int = 10_080 * 60_000
    """``offsets.retention.minutes``"""
    new_member_join_timeout_ms: int = 300_000
    """How long a first JoinGroup is waited for: its client cannot send heartbeats yet (as Kafka)."""
    max_pending: int = 1_000
    """Ids handed out and not yet used, per group; the oldest is forgotten for a new one.  A client
    needs its id for one round trip, so that a thousand is far more than are ever of use."""
    max_metadata_bytes: int = 32 * 1024 * 1024
    """Metadata of all members of a group.  One generation is a single record, which by default cannot
    pass 1 MiB; members offer several protocols, of which one is written."""

    @classmethod
    def of(cls, config: BrokerConfig) -> GroupLimits:
        """The limits that ``config`` sets."""
        return cls(
            min_session_timeout_ms=config.group_min_session_timeout_ms,
            max_session_timeout_ms=config.group_max_session_timeout_ms,
            initial_rebalance_delay_ms=config.group_initial_rebalance_delay_ms,
            max_size=config.group_max_size,
            offset_metadata_max_bytes=config.offset_metadata_max_bytes,
            offsets_retention_ms=config.offsets_retention_minutes * 60_000,
        )
