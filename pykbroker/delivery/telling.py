"""Events of failed deliveries, for plugins that listen; whether any does is looked up once.

Call these when what they tell is stored (below the high watermark).  They never raise.
"""

from __future__ import annotations

from collections.abc import Sequence

from pykbroker.delivery.deciding import Fate, Outcome
from pykbroker.events import NackSkipped, RecordDeadLettered, RecordReplayed, RecordRetried
from pykbroker.plugins import Plugins


class Telling:
    """Tells plugins; nothing is made for events that nobody hears."""

    def __init__(self, plugins: Plugins) -> None:
        self._retried = plugins.listeners("pykbroker_record_retried")
        self._dead_lettered = plugins.listeners("pykbroker_record_dead_lettered")
        self._replayed = plugins.listeners("pykbroker_record_replayed")
        self._skipped = plugins.listeners("pykbroker_nack_skipped")

    def hears(self, fate: Fate) -> bool:
        """Whether anybody hears of decisions of this kind: whether they need to be kept until stored."""
        return (self._retried if fate is Fate.RETRY else self._dead_lettered) is not None

    def decided(self, outcome: Outcome, retry_topic: str) -> None:
        """A record is retried, a dead letter, or discarded."""
        topic, partition, offset = outcome.origin
        if outcome.fate is Fate.RETRY:
            if self._retried is not None:
                self._retried(
                    RecordRetried(
                        topic=topic,
                        partition=partition,
                        offset=offset,
                        group=outcome.group,
                        attempt=outcome.attempt,
                        reason=outcome.reason,
                        policy=outcome.policy,
                        retry_topic=retry_topic,
                        due_ms=outcome.due_ms,
                        first_failure_ms=outcome.first_failure_ms,
                    )
                )
        elif self._dead_lettered is not None:
            self._dead_lettered(
                RecordDeadLettered(
                    topic=topic,
                    partition=partition,
                    offset=offset,
                    group=outcome.group,
                    attempt=outcome.attempt,
                    reason=outcome.reason,
                    policy=outcome.policy,
                    dead_letter_topic=outcome.topic,
                    first_failure_ms=outcome.first_failure_ms,
                )
            )

    def replayed(
        self, dead_letter_topic: str, partition: int, offset: int, destination: str, due_ms: int
    ) -> None:
        """A dead letter is going back."""
        if self._replayed is not None:
            self._replayed(
                RecordReplayed(
                    dead_letter_topic=dead_letter_topic,
                    partition=partition,
                    offset=offset,
                    destination=destination,
                    due_ms=due_ms,
                )
            )

    def skipped(self, topic: str, partition: int, group: str, offsets: Sequence[tuple[int, int]]) -> None:
        """A nack named offsets that are not there."""
        if self._skipped is not None:
            self._skipped(NackSkipped(topic=topic, partition=partition, group=group, offsets=tuple(offsets)))
