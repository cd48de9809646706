"""Plugins that do harm, each in one way."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace

import trio

from pykbroker import Component, InterceptContext, RecordData, RecordError, ValidationContext, hookimpl

Check = Callable[[ValidationContext], object]
Intercept = Callable[[InterceptContext], object]


def plugin(name: str, **hooks: Callable[..., object]) -> object:
    """A plugin object with these hooks."""
    marked = {hook: hookimpl(function) for hook, function in hooks.items()}
    return SimpleNamespace(__name__=name, **marked)


def validator(check: Check, name: str = "harm", plugin_name: str = "harmful", api: int = 1) -> object:
    """A plugin with one validator that does ``check``."""
    component = Component(name, lambda build: SimpleNamespace(check=check), api=api)
    return plugin(plugin_name, pykbroker_register_validators=lambda: [component])


def interceptor(intercept: Intercept) -> object:
    """A plugin with one interceptor, ``harm``."""
    component = Component("harm", lambda build: SimpleNamespace(intercept=intercept))
    return plugin("harmful", pykbroker_register_interceptors=lambda: [component])


def raising(ctx: object) -> object:
    """Raise."""
    raise RuntimeError("out of order")


def ending(ctx: object) -> object:
    """Try to end the process."""
    raise SystemExit(3)


def blocking(named: Callable[[], bool], patience_s: float = 20.0) -> Callable[[object], None]:
    """Hold the loop up until somebody has ``named`` who does."""

    def hold_up(ctx: object) -> None:
        deadline = time.monotonic() + patience_s
        while not named() and time.monotonic() < deadline:
            time.sleep(0.02)

    return hold_up


async def hanging(ctx: object) -> None:
    """Never answer."""
    await trio.sleep_forever()


async def raising_later(ctx: object) -> None:
    """Raise after a while."""
    await trio.sleep(0.01)
    raise RuntimeError("out of order")


class Switch:
    """A validator that waits until it is told to go on, in another thread than the test's."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()

    async def check(self, ctx: ValidationContext) -> Sequence[RecordError]:
        self.asked.set()
        await trio.to_thread.run_sync(self.answer.wait)
        return ()


NONSENSE_CHECKS: dict[str, object] = {
    "a number": 7,
    "true": True,
    "a text": "no",
    "texts": ["no"],
    "an index that is none": [RecordError(True, "no")],
    "an index too large": [RecordError(99, "no")],
    "a negative index": [RecordError(-1, "no")],
    "no message": [RecordError(0, None)],  # type: ignore[arg-type]  # that is the point
}

NONSENSE_RECORDS: dict[str, object] = {
    "a number": 7,
    "too few": [],
    "too many": [RecordData(), RecordData(), RecordData()],
    "a generator": iter([RecordData(), RecordData()]),
    "no records": [None, None],
    "a key that is text": [RecordData("k"), RecordData()],  # type: ignore[arg-type]  # that is the point
    "a time that is none": [RecordData(timestamp_ms=1.5), RecordData()],  # type: ignore[arg-type]  # as above
    "headers that are none": [RecordData(headers=(1,)), RecordData()],  # type: ignore[arg-type]  # as above
    "a header without name": [RecordData(headers=((None, b""),)), RecordData()],  # type: ignore[arg-type]  # as above
}

Service = Callable[[object], Awaitable[None]]


def service(run: Callable[..., Awaitable[None]]) -> object:
    """A plugin with one service, ``harm``."""
    component = Component("harm", lambda build: SimpleNamespace(run=run))
    return plugin("harmful", pykbroker_register_services=lambda: [component])
