"""Deadlines against a dictionary."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pykbroker.coordinator.deadlines import Deadlines

ops = st.lists(
    st.tuples(st.sampled_from(["set", "set", "clear", "due"]), st.integers(0, 5), st.integers(0, 20)),
    max_size=200,
)


@given(ops)
def test_as_a_dictionary(steps: list[tuple[str, int, int]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    model: dict[int, float] = {}
    for what, key, at in steps:
        if what == "set":
            deadlines.set(key, at)
            model[key] = at
        elif what == "clear":
            deadlines.clear(key)
            model.pop(key, None)
        else:
            due = deadlines.first_due(at)
            earliest = min(model.values(), default=math.inf)
            assert (due is None) == (earliest > at)
            assert due is None or model[due] == earliest
        assert deadlines.next() == min(model.values(), default=math.inf)
        assert len(deadlines) == len(model)
        assert deadlines.get(key) == model.get(key)


def test_what_is_moved_often_takes_no_room() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for at in range(1000, 0, -1):
        deadlines.set(1, at)
    assert len(deadlines._heap) < 300
    assert deadlines.next() == 1
