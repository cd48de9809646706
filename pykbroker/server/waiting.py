"""A parked answer while it waits: woken by who has data, expired by the driver; sans-IO."""

from __future__ import annotations

from collections.abc import Callable

from pykbroker.apis._registry import Parked
from pykbroker.protocol.schema import Message


class Waiting:
    """A parked answer and what has happened to it since.

    ``woken`` is set by the party that has data, ``expired`` by the driver when the deadline has passed;
    either calls ``notify``, which the driver sets while it waits.
    """

    __slots__ = ("_parked", "expired", "notify", "woken")

    def __init__(self, parked: Parked[Message]) -> None:
        self._parked = parked
        self.woken = False
        self.expired = False
        self.notify: Callable[[], None] | None = None
        parked.start(self.wake)

    @property
    def deadline(self) -> float:
        """Seconds of the monotonic clock at which the answer must be given."""
        return self._parked.deadline

    def wake(self) -> None:
        """There may be an answer now."""
        self.woken = True
        if self.notify is not None:
            self.notify()

    def expire(self) -> None:
        """There must be an answer now."""
        self.expired = True
        if self.notify is not None:
            self.notify()

    def poll(self) -> Message | None:
        """The answer, or None; what the parked answer raises goes through."""
        while self.woken or self.expired:
            self.woken = False
            answer = self._parked.answer(expired=self.expired)
            if answer is not None:
                return answer
            if self.expired:
                raise RuntimeError(f"{self._parked!r} gave no answer at its deadline")
        return None

    def close(self) -> None:
        """Let go of it; always called."""
        self.notify = None
        self._parked.close()
