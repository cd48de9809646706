"""Making the component under test as a broker would, and calling it."""

from __future__ import annotations

import gc
import random
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TypeVar, cast

from pykbroker.components import RETRY_POLICY, BuildContext, Component, ComponentKind, Settings
from pykbroker.config import ConfigError
from pykbroker.config.setting import Value
from pykbroker.plugins import registry
from pykbroker.plugins.registry import Unfit
from pykbroker.testing._settings import setting_text

T = TypeVar("T")
C = TypeVar("C")
R = TypeVar("R")

Make = Component[T] | Callable[[], T]
Values = Mapping[str, object]

TOPIC = "kit-topic"
GROUP = "kit-group"
NOW_MS = 1_700_000_000_000
SLOW_S = 0.1
"""What a broker's watchdog takes for holding it up."""


class KitFailure(AssertionError):
    """The component does not do what every component of its kind must."""


def take(kind: ComponentKind[object], registered: object) -> Sequence[Component[object]]:
    """What a registering hook returned, if a broker would take it."""
    if registered is None:
        return ()
    if isinstance(registered, Component) or not isinstance(registered, Iterable):
        raise KitFailure(f"{kind.hook} must return a list of Component, not {type(registered).__name__}")
    components = list(registered)
    for component in components:
        if not isinstance(component, Component):
            raise KitFailure(f"{kind.hook} must return Components, not {type(component).__name__}")
    return components


def make(kind: ComponentKind[T], what: Make[T], settings: Values | None, *, topic: str | None = TOPIC) -> T:
    """One object of the component, with the methods of its kind."""
    made: object = _from_component(kind, what, settings, topic) if isinstance(what, Component) else what()
    for method in kind.methods:
        if not callable(getattr(made, method, None)):
            raise KitFailure(f"the factory made a {type(made).__name__}, which has no {method}()")
    return cast("T", made)  # as far as can be known: its methods are there


def _from_component(
    kind: ComponentKind[T], component: Component[T], given: Values | None, topic: str | None
) -> T:
    ctx = BuildContext(
        component=component.name,
        topic=topic,
        settings=component_settings(kind, component, given),
        time_ms=lambda: NOW_MS,
        random=random.Random(0),
        group=GROUP if kind.name == RETRY_POLICY.name else None,
    )
    return call(f"the factory of {component.name}", component.factory, ctx)


def component_settings(kind: ComponentKind[T], component: Make[T], given: Values | None) -> Settings:
    """What the component is told of its settings, where ``given`` are set."""
    if not isinstance(component, Component):
        return Settings(cast("Mapping[str, Value]", given or {}))
    try:
        entry = registry.registered("kit", kind, component, {})
    except Unfit as unfit:
        raise KitFailure(f"a broker would leave this component out: {unfit}") from unfit
    values: dict[str, Value] = {key: row.default for key, row in entry.rows.items()}
    for key, value in (given or {}).items():
        if key not in entry.rows:
            raise KitFailure(f"{component.name} declares no setting {key!r}")
        try:
            values[key] = entry.rows[key].parse(setting_text(value))
        except ConfigError as error:
            raise KitFailure(f"{component.name} does not take its setting: {error}") from error
    return Settings(values)


class Stopwatch:
    """Takes the time of what runs within it, in ``seconds``, as far as that is its own doing.

    It runs without the garbage collector, which would look at the objects of a whole test run.  Where it
    has waited for nothing only its time on the processor counts: the rest the machine spent elsewhere.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.worked = 0.0
        """Seconds on the processor."""

    def __enter__(self) -> None:
        self._collects = gc.isenabled()
        gc.disable()
        self._waits, self._processor, self._begun = _waits(), time.thread_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        passed, self.worked = time.perf_counter() - self._begun, time.thread_time() - self._processor
        self.seconds = self.worked if _waits() == self._waits else passed
        if self._collects:
            gc.enable()


def _waits() -> int | float:
    """How often this thread has let others go first; another number each time where nobody counts that."""
    if sys.platform == "linux":
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return time.perf_counter()


def call(
    what: str,
    fn: Callable[[C], R],
    ctx: C,
    *,
    expected: type[Exception] | tuple[type[Exception], ...] = (),
) -> R:
    """``fn(ctx)``, which must neither raise (but ``expected``) nor be slow nor be async."""
    for _ in range(2):
        stopwatch = Stopwatch()
        try:
            with stopwatch:
                answer = fn(ctx)
        except expected:
            raise
        except Exception as error:
            raise KitFailure(f"{what} raised {error!r}, given {ctx!r:.500}") from error
        if stopwatch.seconds <= SLOW_S or stopwatch.worked > SLOW_S:
            break  # else it waited: for another thread of this process perhaps, but not twice
    took = stopwatch.seconds
    if took > SLOW_S:
        raise KitFailure(f"{what} took {took:.3f} s: everything else in a broker waits meanwhile")
    if isinstance(answer, Awaitable):
        if isinstance(answer, Coroutine):
            answer.close()
        raise KitFailure(f"{what} must not be async: a broker calls it and does not wait")
    return answer
