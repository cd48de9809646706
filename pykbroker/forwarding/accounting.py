"""What lanes tell: counters, log lines, events.  One log line per target and minute, none per record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pykbroker.events import RecordUnroutable
from pykbroker.forwarding.deciding import Decided

log = logging.getLogger(__name__)

REPEAT_S = 60.0
"""A target that refuses copies gets another log line after this long."""


@dataclass(slots=True, kw_only=True)
class Counters:
    """What all lanes of a broker have done."""

    records: int = 0
    copies: int = 0
    unroutable: int = 0
    refused: int = 0
    dead_letters: int = 0
    dropped: int = 0


class Account:
    """What one lane tells."""

    def __init__(
        self,
        face: str,
        partition: int,
        counters: Counters,
        monotonic: Callable[[], float],
        on_unroutable: Callable[[RecordUnroutable], None] | None,
    ) -> None:
        self._face = face
        self._partition = partition
        self._counters = counters
        self._monotonic = monotonic
        self._on_unroutable = on_unroutable
        self._told: dict[str, float] = {}

    def decided(self, count: int, decided: Decided) -> None:
        """``count`` records were decided about, and that is planned."""
        self._counters.records += count
        if decided.unroutable:
            self._unroutable(decided.unroutable)
        if decided.refused:
            self.refused(decided)

    def _unroutable(self, unroutable: Sequence[tuple[int, str]]) -> None:
        self._counters.unroutable += len(unroutable)
        if self._on_unroutable is None:
            return
        for offset, key in unroutable:
            self._on_unroutable(
                RecordUnroutable(
                    exchange=self._face, partition=self._partition, offset=offset, routing_key=key
                )
            )

    def refused(self, decided: Decided) -> None:
        """Targets refused copies for good."""
        counters, now = self._counters, self._monotonic()
        for refused in decided.refused:
            if refused.dead_letter:
                counters.dead_letters += 1
            else:
                counters.dropped += 1
            if now - self._told.get(refused.target, -REPEAT_S) < REPEAT_S:
                continue
            self._told[refused.target] = now
            log.warning(
                "a copy is refused for good, later ones are only counted for a while: from=%s-%d offset=%d "
                "to=%s, it is %s: %s",
                self._face, self._partition, refused.offset, refused.target,
                "a dead letter" if refused.dead_letter else "dropped", refused.reason,
            )  # fmt: skip
