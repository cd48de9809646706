"""Which ranges of a partition a command reads: all that it must show, and little besides."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pykbroker.cli._dead_letters import NEAR, Partition, _spans, _wanted
from pykbroker.cli._letters import Place, Ranges


@given(
    st.integers(0, 20),
    st.integers(0, 30),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6))),
    st.lists(
        st.tuples(st.sampled_from(["t", "u"]), st.integers(0, 1), st.integers(0, 55), st.integers(0, 8))
    ),
    st.booleans(),
)
def test_what_is_wanted(
    start: int,
    length: int,
    done: list[tuple[int, int]],
    named: list[tuple[str, int, int, int]],
    settled: bool,
) -> None:
    ranges = Ranges((first, first + more) for first, more in done)
    partition = Partition(index=1, start=start, end=start + length, settled=ranges)
    places = [Place(topic, index, first, first + more) for topic, index, first, more in named]
    wanted = Ranges(_wanted("t", partition, settled, places))

    def is_named(offset: int) -> bool:
        return not places or any(
            (each.topic, each.partition) == ("t", 1) and each.first <= offset <= each.last for each in places
        )

    model = {
        offset
        for offset in range(start, start + length)
        if (offset in ranges) is settled and is_named(offset)
    }
    assert {offset for first, last in wanted for offset in range(first, last + 1)} == model
    assert partition.waiting == sum(offset not in ranges for offset in range(start, start + length))


def test_what_lies_close_together_is_read_in_one_go() -> None:
    wanted = Ranges([1, 5, (9, 12), 12 + NEAR, 20 + 3 * NEAR])
    spans = _spans(wanted)
    assert list(spans) == [(1, 12 + NEAR), (20 + 3 * NEAR, 20 + 3 * NEAR)]
    assert spans.covers(wanted)
