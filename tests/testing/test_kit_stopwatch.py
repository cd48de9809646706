"""What the kits take for slow: what a plugin does or waits for, not what the machine does meanwhile."""

from __future__ import annotations

import gc
import itertools
import time
from types import SimpleNamespace

import pytest

from pykbroker.testing.kits import _making
from pykbroker.testing.kits._making import SLOW_S, KitFailure, call


def compute(ctx: object) -> None:
    until = time.thread_time() + 1.5 * SLOW_S
    while time.thread_time() < until:
        pass


def wait(ctx: object) -> None:
    time.sleep(1.5 * SLOW_S)


@pytest.mark.parametrize("slow", [compute, wait])
def test_work_and_waiting_count(slow: object) -> None:
    assert callable(slow)
    with pytest.raises(KitFailure, match="it took"):
        call("it", slow, None)


def test_what_other_programs_take_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = itertools.count(step=3600)
    clock = SimpleNamespace(perf_counter=lambda: next(hours), thread_time=time.thread_time)
    monkeypatch.setattr(_making, "_waits", lambda: 7)
    monkeypatch.setattr(_making, "time", clock)
    assert call("it", lambda ctx: 5, None) == 5


def test_a_wait_that_does_not_come_again_does_not_count() -> None:
    waits = [1.5 * SLOW_S]
    assert call("it", lambda ctx: time.sleep(waits.pop() if waits else 0), None) is None
    assert waits == []


def test_no_collection_of_garbage_meanwhile() -> None:
    assert not call("it", lambda ctx: gc.isenabled(), None)
    with pytest.raises(KitFailure, match="it raised"):
        call("it", lambda ctx: 1 // 0, None)
    assert gc.isenabled()
