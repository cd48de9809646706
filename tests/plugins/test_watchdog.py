"""Who holds the broker up is named with its stack."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from pykbroker.plugins import watchdog
from pykbroker.plugins.watchdog import Watchdog


@pytest.fixture
def dog() -> Iterator[Watchdog]:
    dog = Watchdog()
    yield dog
    dog.close()


@pytest.fixture
def still(dog: Watchdog, monkeypatch: pytest.MonkeyPatch) -> Watchdog:
    """One whose thread does not run: the test looks itself."""
    monkeypatch.setattr(dog, "_rouse", lambda: None)
    return dog


def test_each_threshold_is_told_once(still: Watchdog, caplog: pytest.LogCaptureFixture) -> None:
    now = monotonic()
    still.enter("plugin=slow in=partitioner x")
    still.look(now + 0.05)
    assert not caplog.records
    for later in (0.2, 0.3, 1.5, 2.0, 11.0, 70.0, 200.0):
        still.look(now + later)
    assert len(caplog.records) == 4
    assert "plugin=slow in=partitioner x" in caplog.text
    assert "test_each_threshold_is_told_once" in caplog.text


def test_a_call_that_returned_is_not_told(still: Watchdog, caplog: pytest.LogCaptureFixture) -> None:
    still.leave(still.enter("quick"))
    still.look(monotonic() + 5)
    assert not caplog.records


def test_nested_calls_name_the_inner(still: Watchdog, caplog: pytest.LogCaptureFixture) -> None:
    outer = still.enter("outer")
    inner = still.enter("inner")
    still.look(monotonic() + 0.2)
    still.leave(inner)
    still.look(monotonic() + 0.2)
    still.leave(outer)
    assert ["broker: inner" in r.getMessage() for r in caplog.records] == [True, False]
    assert still._running == {}


def test_the_thread_looks_and_goes_to_sleep(
    dog: Watchdog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()
    monkeypatch.setattr(watchdog, "LOOK_S", 0.001)
    monkeypatch.setattr(watchdog, "THRESHOLDS_S", (0.005,))
    monkeypatch.setattr(watchdog.log, "warning", lambda *args: told.set())
    for _ in range(2):  # the second time it has to be woken
        outer = dog.enter("slow")
        assert told.wait(10)
        dog.leave(outer)
        told.clear()
        deadline = monotonic() + 10
        while not dog._asleep and monotonic() < deadline:
            threading.Event().wait(0.001)
        assert dog._asleep


def test_closing_ends_the_thread(dog: Watchdog) -> None:
    dog.leave(dog.enter("quick"))
    thread = dog._thread
    assert thread is not None
    dog.close()
    assert not thread.is_alive()
