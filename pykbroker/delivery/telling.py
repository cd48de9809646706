"""Events of failed deliveries, for plugins that listen; whether any does is looked up once.

Call these when what they tell is stored (below the high watermark).  They never raise.
"""

from __future__ import annotations

from collections.abc import Sequence

from pykbroker.delivery.deciding import Outcome
from pykbroker.plugins import Plugins


class Telling:
    """Tells plugins.  ``decided`` and ``replayed`` say whether anybody listens, so that nothing needs to
    be kept for events that nobody hears."""

    def __init__(self, plugins: Plugins) -> None:
        raise NotImplementedError

    @property
    def any_decided(self) -> bool:
        """Whether anybody hears of decisions."""
        raise NotImplementedError

    def decided(self, outcome: Outcome, retry_topic: str) -> None:
        """A record is retried, a dead letter, or discarded."""
        raise NotImplementedError

    def replayed(
        self, dead_letter_topic: str, partition: int, offset: int, destination: str, due_ms: int
    ) -> None:
        """A dead letter is going back."""
        raise NotImplementedError

    def skipped(self, topic: str, partition: int, group: str, offsets: Sequence[tuple[int, int]]) -> None:
        """A nack named offsets that are not there."""
        raise NotImplementedError
