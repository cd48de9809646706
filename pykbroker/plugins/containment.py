"""Calling a plugin's code: what it raises is named in the log, counted, and becomes one exception.

This is one of the two places where everything is caught (the other is a connection): the code behind it
is not ours.  Cancellation and KeyboardInterrupt pass; ``SystemExit`` does not, for no plugin ends the
broker.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from inspect import isawaitable
from time import monotonic
from typing import Generic, TypeVar, overload

import trio

from pykbroker.plugins.watchdog import Watchdog

log = logging.getLogger(__name__)

C = TypeVar("C")
R = TypeVar("R")

Expected = type[Exception] | tuple[type[Exception], ...]

REPEAT_S = 10.0
"""Time that has to pass before the same plugin's failure in the same place gets another log line."""
PLACES = 1000
"""Places (plugin, hook, topic) that are told apart in the log; a bound for brokers with many topics."""


class ComponentFault(Exception):
    """A plugin's code raised, answered nonsense or took too long.  It is logged and counted already;
    the caller answers what the hook documents.  ``str()`` names plugin and hook, for a client."""


class Faults:
    """What has failed in one broker: counts, and which failures the log has seen."""

    def __init__(self, watchdog: Watchdog, timeout_s: float) -> None:
        self.watchdog = watchdog
        self.timeout_s = timeout_s
        self.counts: Counter[tuple[str, str]] = Counter()
        """Failures by plugin and by component or hook."""
        self._logged: dict[tuple[str, str, str], float] = {}

    def record(self, plugin: str, what: str, topic: str, why: str, error: BaseException | None) -> None:
        """Count one failure; log it with its traceback the first time, then now and then."""
        self.counts[plugin, what] += 1
        place = (plugin, what, topic if len(self._logged) < PLACES else "")
        last, now = self._logged.get(place), monotonic()
        if last is not None and now - last < REPEAT_S:
            return
        self._logged[place] = now
        where = f" topic={topic}" if topic else ""
        times = self.counts[plugin, what]
        log.error(
            "a plugin failed: plugin=%s in=%s%s times=%d: %s", plugin, what, where, times, why,
            exc_info=error if last is None else None,
        )  # fmt: skip


class Guard:
    """Calls one plugin's code; made once per component and topic, or per hook."""

    __slots__ = ("_faults", "_watchdog", "label", "plugin", "topic", "what")

    def __init__(self, faults: Faults, plugin: str, what: str, topic: str | None = None) -> None:
        self.plugin = plugin
        self.what = what
        self.topic = topic
        self.label = f"plugin={plugin} in={what}" + (f" topic={topic}" if topic else "")
        self._faults = faults
        self._watchdog = faults.watchdog

    def call(
        self,
        fn: Callable[[C], R],
        ctx: C,
        *,
        expected: Expected = (),
    ) -> R:
        """``fn(ctx)``.  Raises ``expected`` as it is, and :class:`ComponentFault` for all else.

        What comes back lazily (a generator) runs outside: have ``fn`` make a list of it.
        """
        outer = self._watchdog.enter(self.label)
        try:
            return fn(ctx)
        except expected:
            raise
        except (Exception, SystemExit) as error:  # the boundary to plugins' code
            raise self._failed(ctx, error) from error
        finally:
            self._watchdog.leave(outer)

    @overload
    async def wait(
        self,
        fn: Callable[[C], Awaitable[R]],
        ctx: C,
        *,
        expected: Expected = (),
        limit_s: float | None = None,
    ) -> R: ...

    @overload
    async def wait(
        self, fn: Callable[[C], R], ctx: C, *, expected: Expected = (), limit_s: float | None = None
    ) -> R: ...

    async def wait(
        self,
        fn: Callable[[C], Awaitable[R] | R],
        ctx: C,
        *,
        expected: Expected = (),
        limit_s: float | None = None,
    ) -> R:
        """The same for code that may be async: cancelled after ``limit_s``, or after
        ``pykbroker.plugin.timeout.ms`` where that is None."""
        result = self.call(fn, ctx, expected=expected)
        if not isawaitable(result):
            return result
        limit_s = self._faults.timeout_s if limit_s is None else limit_s
        with trio.move_on_after(limit_s):
            try:
                return await _Watched(self, self._watchdog, result)
            except expected:
                raise
            except (Exception, SystemExit) as error:  # the boundary to plugins' code
                raise self._failed(ctx, error) from error
        raise self.fault(f"cancelled after {limit_s:g} s", ctx)

    def fault(self, why: str, ctx: object = None) -> ComponentFault:
        """Log and count an answer that makes no sense; returns what the caller raises."""
        return self._fault(why, ctx, None)

    def _failed(self, ctx: object, error: BaseException) -> ComponentFault:
        return self._fault(f"{type(error).__name__}: {error}", ctx, error)

    def _fault(self, why: str, ctx: object, error: BaseException | None) -> ComponentFault:
        topic = self.topic or getattr(ctx, "topic", None) or getattr(ctx, "exchange", None) or ""
        self._faults.record(self.plugin, self.what, str(topic), why, error)
        return ComponentFault(f"plugin {self.plugin} failed in {self.what}: {why}")


class _Watched(Generic[R]):
    """An awaitable of a plugin, watched whenever it runs: not while it waits."""

    def __init__(self, guard: Guard, watchdog: Watchdog, inner: Awaitable[R]) -> None:
        self._guard = guard
        self._watchdog = watchdog
        self._inner = inner

    def __await__(self) -> Generator[object, object, R]:
        steps = self._inner.__await__()
        go_on: Callable[[], object] = partial(next, steps)
        while True:
            outer = self._watchdog.enter(self._guard.label)
            try:
                asked = go_on()
            except StopIteration as done:
                result: R = done.value
                return result
            finally:
                self._watchdog.leave(outer)
            try:
                go_on = partial(steps.send, (yield asked))
            except BaseException as thrown:  # noqa: BLE001  # handed on to whom it was thrown at
                go_on = partial(steps.throw, thrown)
