"""Letters on their way back: how many are left, reckoned from what was noted when they were planned."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pykbroker.catalog.retrying import DLQ_GROUP
from pykbroker.delivery import reports, returning
from pykbroker.delivery.counted import Changes, Holder
from pykbroker.delivery.reports import Aside
from pykbroker.delivery.returning import MAX_RUNS, Back, Returning, Run, decode, read
from pykbroker.delivery.waiting import Stuck

TOPIC, OTHER = b"t" * 16, b"o" * 16


def noted(changes: Changes, topic_id: bytes | None = None) -> list[Back]:
    return read({name: value for name, value in changes.items() if value is not None}, topic_id)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 400), st.integers(-10, 4000))
def test_what_goes_on_at_one_pace_is_one_run(pieces: list[int], step_ms: int, now: int) -> None:
    back, due_ms, dues = Back(TOPIC, 0, "orders"), 1000, list[int]()
    for count in pieces:
        own = [due_ms + number * step_ms for number in range(count)]
        dues += own
        due_ms = own[-1] + step_ms
        letters = Returning({back.name: back.encode()})
        changes: Changes = {}
        letters.note(TOPIC, 0, [("orders", each) for each in own], 0, changes)
        (back,) = noted(changes)
    assert len(back.runs) == 1
    assert back.left(1000 + now) == sum(each > 1000 + now for each in dues)
    assert back.until_ms == dues[-1]


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 50), st.integers(1, 20)), max_size=80))
def test_runs_are_bounded_and_no_letter_is_forgotten(pieces: list[tuple[int, int, int]]) -> None:
    back = Back(TOPIC, 3, "orders")
    for due_ms, step_ms, count in pieces:
        back = back.add(Run(due_ms, step_ms, count), -1)
    assert decode(back.name, back.encode()) == back
    assert len(back.runs) <= MAX_RUNS
    assert back.left(-1) == sum(count for _, _, count in pieces)
    assert back.left(back.until_ms + 1) == 0


def test_letters_that_go_back_at_once_do_not_hide_those_that_wait() -> None:
    """A letter that was ordered at a low rate is due in a day when another one goes at once."""
    back = Back(TOPIC, 0, "orders").add(Run(86_400_000, 0.0, 1), 0).add(Run(0, 0.0, 1), -1)
    assert (back.left(-1), back.left(10), back.until_ms) == (2, 1, 86_400_000)
    later = back.add(Run(20, 0.0, 1), 10)
    assert (later.left(10), later.left(20)) == (2, 1)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from((0, 10, 50)), st.integers(1, 5)), max_size=9))
def test_how_many_are_left_is_exact_while_there_is_room(pieces: list[tuple[int, int, int]]) -> None:
    back, dues = Back(TOPIC, 0, "orders"), list[int]()
    for hundreds, step_ms, count in pieces:
        back = back.add(Run(100 * hundreds, step_ms, count), -1)
        dues += [100 * hundreds + number * step_ms for number in range(count)]
    assert back.until_ms == max(dues, default=0)
    for now in (-1, *dues, *(due + 5 for due in dues)):
        assert back.left(now) == sum(due > now for due in dues)


def test_letters_of_several_origins_are_noted_apart() -> None:
    changes: Changes = {}
    letters = Returning({})
    letters.note(TOPIC, 0, [("a", 10), ("b", 20), ("a", 30)], 0, changes)
    letters.note(OTHER, 0, [("a", 10)], 0, changes)
    assert {(each.to, each.left(0)) for each in noted(changes, TOPIC)} == {("a", 2), ("b", 1)}
    assert [(each.to, each.left(15)) for each in noted(changes, OTHER)] == [("a", 0)]


def test_what_has_arrived_is_forgotten() -> None:
    changes: Changes = {}
    letters = Returning({})
    letters.note(TOPIC, 0, [("gone", 10), ("there", 10), ("later", 50)], 0, changes)
    letters.note(OTHER, 0, [("later", 50)], 0, changes)
    letters.sweep(lambda topic_id: topic_id == OTHER, lambda name: name != "gone", 20, changes)
    assert noted(changes, OTHER) == [], "nobody can ask for it"
    assert {each.to for each in noted(changes)} == {"gone", "later"}, (
        "for what is stuck, it is known where to"
    )


def test_the_setting() -> None:
    backs = [Back(TOPIC, 1, "orders", (Run(100, 10, 5),)), Back(TOPIC, 0, "repaired", (Run(0, 0, 3),))]
    aside = Aside(holder=Holder(DLQ_GROUP, TOPIC, 1), ranges=((3, 9),), why="no disk")
    stuck = [
        Stuck(to="repaired", records=3, why="it is not there", help="make it"),
        Stuck(to="nothing of ours", records=9, why="", help=""),
    ]
    said = json.loads(returning.described(110, backs, [aside], stuck))
    assert said == {
        "now_ms": 110,
        "returning": [{"partition": 1, "to": "orders", "letters": 3, "until_ms": 140}],
        "ordered": [{"partition": 1, "records": 7, "why": "no disk"}],
        "stuck": [{"to": "repaired", "records": 3, "why": "it is not there", "help": "make it"}],
    }


def test_too_many_partitions_for_a_setting() -> None:
    backs = [Back(TOPIC, number, "orders", (Run(100 + number, 10, 5),)) for number in range(2000)]
    said = json.loads(returning.described(0, backs, (), ()))
    assert said["returning"] == [{"partition": None, "to": "orders", "letters": 10_000, "until_ms": 2139}]
    holders = (Holder("g", TOPIC, number) for number in range(2000))
    asides = [("orders", Aside(holder=holder, ranges=((0, 0),), why="no disk")) for holder in holders]
    text = reports.described(asides)
    said = json.loads(text)
    assert len(text) < reports.MAX_BYTES
    assert len(said["aside"]) + said["more"] == 2000
