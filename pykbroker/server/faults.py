"""Scripted faults: answer with an error, delay, or drop the next requests of a kind.

A test fixture's ``fail(...)`` adds rules; a server without rules does not look for any.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pykbroker.errors import ErrorCode


@dataclass(slots=True, kw_only=True, eq=False)
class Fault:
    """One rule.  ``api`` is an API's name ("Produce") or key, or None for all.

    ``count`` requests are affected (None: all from now on).  ``delay_s`` comes first; then the connection
    is dropped without an answer (``drop``), or ``error`` is answered in the response's own shape, or the
    request is handled as usual.
    """

    api: str | int | None = None
    count: int | None = 1
    error: ErrorCode | None = None
    delay_s: float = 0.0
    drop: bool = False
    hits: int = field(default=0, init=False)
    """How many requests it has affected."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"count={self.count!r}, allowed: 1 or more, or None for all")
        if self.delay_s < 0:
            raise ValueError(f"delay_s={self.delay_s!r}, allowed: 0 or more")
        if self.drop and self.error is not None:
            raise ValueError("a dropped request has no answer: give drop or error, not both")

    def matches(self, key: int, name: str) -> bool:
        """Whether a request of this API is affected."""
        if self.count is not None and self.hits >= self.count:
            return False
        return self.api is None or self.api in (key, name)


class Faults:
    """The rules of one server, in the order they were added; the first that matches counts."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Add a rule and return it; its ``hits`` can be watched."""
        self._rules.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Take a rule away; one that is used up is already gone."""
        if fault in self._rules:
            self._rules.remove(fault)

    def clear(self) -> None:
        """Take all rules away."""
        self._rules.clear()

    def take(self, key: int, name: str) -> Fault | None:
        """The rule for a request that has just come, counted as used."""
        for fault in self._rules:
            if fault.matches(key, name):
                fault.hits += 1
                if fault.count is not None and fault.hits >= fault.count:
                    self._rules.remove(fault)
                return fault
        return None
