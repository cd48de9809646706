"""Which segments may go: by time, by size, because the log start has passed them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from pykbroker.log.segment import Segment

log = logging.getLogger(__name__)


class RetentionConfig(Protocol):
    """The settings that decide; -1 means no limit."""

    @property
    def retention_ms(self) -> int: ...
    @property
    def retention_bytes(self) -> int: ...
    @property
    def cleanup_policy(self) -> frozenset[str]: ...


def expired(
    segments: Sequence[Segment],
    config: RetentionConfig,
    *,
    log_start: int,
    log_end: int,
    high_watermark: int,
    now_ms: int,
) -> int:
    """How many segments, oldest first, may be deleted.

    Only segments wholly below the high watermark; time means the largest timestamp in the segment
    (the file's age if it has none).  The last one counts too when it is not empty: the caller then
    rolls first.  Raises :class:`OSError`.
    """
    by_rule = "delete" in config.cleanup_policy
    excess = sum(s.size for s in segments) - config.retention_bytes
    timed = by_rule and config.retention_ms >= 0
    sized = by_rule and config.retention_bytes >= 0
    count = 0
    for i, segment in enumerate(segments):
        last = i + 1 == len(segments)
        upper = log_end if last else segments[i + 1].base_offset
        if upper > high_watermark or (last and segment.size == 0):
            break
        if upper <= log_start and not last:
            reason = "log start"
        elif timed and now_ms - _age_base(segment) > config.retention_ms:
            reason = "time"
        elif sized and excess >= segment.size:
            reason = "size"
        else:
            break
        log.info("segment expired: file=%s reason=%s bytes=%d", segment.path, reason, segment.size)
        excess -= segment.size
        count += 1
    return count


def _age_base(segment: Segment) -> int:
    """The time (ms) from which the segment's age counts."""
    largest = segment.largest_timestamp()
    if largest >= 0:
        return largest
    return segment.files.stat(segment.path).st_mtime_ns // 1_000_000
