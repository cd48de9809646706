"""Whatever a plugin's code does, its caller sees one exception, and the log says whose it was."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterator

import pytest
import trio

from pykbroker.components import PolicyViolation
from pykbroker.plugins import containment
from pykbroker.plugins.containment import ComponentFault, Faults, Guard
from pykbroker.plugins.watchdog import Watchdog


@pytest.fixture
def faults() -> Iterator[Faults]:
    faults = Faults(Watchdog(), timeout_s=0.05)
    yield faults
    faults.watchdog.close()


@pytest.fixture
def guard(faults: Faults) -> Guard:
    return Guard(faults, "mine", "validator strict", "orders")


def divide(by: int) -> float:
    return 1 / by


def test_an_answer_passes(guard: Guard, faults: Faults) -> None:
    assert guard.call(divide, 2) == 0.5
    assert not faults.counts


def test_raising_is_named_once_with_its_traceback_and_counted(
    guard: Guard, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with pytest.raises(ComponentFault, match="plugin mine failed in validator strict: ZeroDivisionError"):
            guard.call(divide, 0)
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "plugin=mine in=validator strict topic=orders times=1" in record.getMessage()
    assert faults.counts["mine", "validator strict"] == 3


def test_it_is_said_again_after_a_while(
    guard: Guard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containment, "REPEAT_S", 0)
    for _ in range(2):
        with pytest.raises(ComponentFault):
            guard.call(divide, 0)
    first, second = caplog.records
    assert first.exc_info is not None
    assert not second.exc_info
    assert "times=2" in second.getMessage()


def test_another_topic_is_another_line(faults: Faults, caplog: pytest.LogCaptureFixture) -> None:
    for topic in ("a", "b"):
        with pytest.raises(ComponentFault):
            Guard(faults, "mine", "validator strict", topic).call(divide, 0)
    assert ["topic=a" in r.getMessage() for r in caplog.records] == [True, False]


def test_the_topic_of_an_event_is_named(faults: Faults, caplog: pytest.LogCaptureFixture) -> None:
    class Event:
        topic = "payments"

    with pytest.raises(ComponentFault):
        Guard(faults, "mine", "pykbroker_topic_changed").call(lambda event: divide(0), Event())
    assert "topic=payments" in caplog.text


def test_no_plugin_ends_the_broker(guard: Guard) -> None:
    def leave(ctx: object) -> None:
        raise SystemExit(1)

    with pytest.raises(ComponentFault, match="SystemExit"):
        guard.call(leave, None)


def test_what_is_expected_passes_uncounted(guard: Guard, faults: Faults) -> None:
    def refuse(ctx: object) -> None:
        raise PolicyViolation("no")

    with pytest.raises(PolicyViolation):
        guard.call(refuse, None, expected=PolicyViolation)
    assert not faults.counts


async def test_an_async_answer_is_awaited(guard: Guard) -> None:
    async def double(x: int) -> int:
        await trio.lowlevel.checkpoint()
        return 2 * x

    assert await guard.wait(double, 4) == 8
    assert await guard.wait(divide, 2) == 0.5


async def test_a_hanging_answer_is_cancelled(
    guard: Guard, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    cleaned = []

    async def hang(ctx: object) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(True)

    with pytest.raises(ComponentFault, match=r"cancelled after 0\.05 s"):
        await guard.wait(hang, None)
    assert cleaned == [True]
    assert "cancelled after" in caplog.text


async def test_async_raising(guard: Guard) -> None:
    async def fail(ctx: object) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("x")

    with pytest.raises(ComponentFault, match="KeyError"):
        await guard.wait(fail, None)

    async def refuse(ctx: object) -> None:
        await trio.lowlevel.checkpoint()
        raise PolicyViolation("no")

    with pytest.raises(PolicyViolation):
        await guard.wait(refuse, None, expected=PolicyViolation)


async def test_cancellation_from_outside_passes(guard: Guard, faults: Faults) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await guard.wait(trio.sleep, 1000)
    assert scope.cancelled_caught
    assert not faults.counts


async def test_async_code_is_watched_while_it_runs_and_not_while_it_waits(
    guard: Guard, faults: Faults
) -> None:
    seen: list[int] = []

    async def code(ctx: object) -> None:
        seen.append(len(faults.watchdog._running))
        await checkpoint()
        seen.append(len(faults.watchdog._running))

    async def checkpoint() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beside)

    async def beside() -> None:
        seen.append(-len(faults.watchdog._running))

    def begin(ctx: object) -> Awaitable[None]:
        return code(ctx)

    await guard.wait(begin, None)
    assert seen == [1, 0, 1]
