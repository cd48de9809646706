"""Calling a plugin's code: what it raises is named in the log, counted, and becomes one exception."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

C = TypeVar("C")
R = TypeVar("R")


class ComponentFault(Exception):
    """A plugin's code raised, answered nonsense or took too long.  It is logged and counted already;
    the caller answers what the hook documents.  ``str()`` names plugin and hook, for a client."""


class Guard:
    """Calls one plugin's code; made once per component and topic, or per hook."""

    __slots__ = ("plugin", "topic", "what")

    plugin: str
    what: str
    topic: str | None

    def call(self, fn: Callable[[C], R], ctx: C, *, expected: type[Exception] | tuple[()] = ()) -> R:
        """``fn(ctx)``.  Raises ``expected`` as it is, and :class:`ComponentFault` for all else."""
        raise NotImplementedError

    async def wait(self, fn: Callable[[C], Awaitable[R] | R], ctx: C) -> R:
        """The same for code that may be async; it is cancelled after ``pykbroker.plugin.timeout.ms``."""
        raise NotImplementedError

    def fault(self, why: str) -> ComponentFault:
        """Log and count an answer that makes no sense; returns what the caller raises."""
        raise NotImplementedError
