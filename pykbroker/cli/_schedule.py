"""When a failed record comes back: the delays of the policies that ship with pykbroker, for people to read.

A plugin's policy decides for each record; nobody can say beforehand what it will.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

Delay = tuple[int, int]
"""The shortest and the longest, ms: some policies draw lots."""

SHOWN: Final = 8
"""Delays that are spelt out."""

_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def _doubling(delay_ms: int, attempt: int, max_delay_ms: int) -> Delay:
    whole = min(delay_ms << min(attempt - 1, 62), max_delay_ms)
    return (whole + 1) // 2, whole


_POLICIES: Final[Mapping[str, Callable[[int, int, int], Delay]]] = {
    "immediate": lambda delay_ms, attempt, max_delay_ms: (0, 0),
    "fixed": lambda delay_ms, attempt, max_delay_ms: (delay_ms, delay_ms),
    "linear": lambda delay_ms, attempt, max_delay_ms: (delay_ms * attempt, delay_ms * attempt),
    "exponential": _doubling,
}


def delays(policy: str, attempts: int, delay_ms: int, max_delay_ms: int) -> list[Delay] | None:
    """Those before the first ``attempts`` returns, at most :data:`SHOWN`; None for a plugin's policy."""
    delay = _POLICIES.get(policy)
    if delay is None:
        return None
    found = (delay(delay_ms, number, max_delay_ms) for number in range(1, min(attempts, SHOWN) + 1))
    return [(min(low, max_delay_ms), min(high, max_delay_ms)) for low, high in found]


def told(found: Sequence[Delay], attempts: int) -> str:
    """``1s, 2s, 4s``, with dots where there are more."""
    if len({*found}) == 1 and attempts > 1:
        return f"{_range(found[0])} each time"
    return ", ".join(map(_range, found)) + (", ..." if attempts > len(found) else "")


def _range(delay: Delay) -> str:
    low, high = delay
    return span(low) if low == high else f"{span(low)} to {span(high)}"


def span(ms: int) -> str:
    """A time in at most two units: ``1m30s``; ``0s``."""
    parts: list[str] = []
    for unit, size in _UNITS:
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
        if len(parts) == 2 or (parts and not count):
            break
    return "".join(parts) or "0s"
