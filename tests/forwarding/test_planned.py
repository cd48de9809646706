"""How copies are numbered behind a log of plans that has lost its end."""

from __future__ import annotations

import pytest

from pykbroker.forwarding.moves import HALF, planned
from pykbroker.forwarding.plan import Place, Route
from pykbroker.records.batch import MAX_SEQUENCE

TARGET, OTHER = Place(b"t" * 16, 0), Place(b"o" * 16, 0)


@pytest.mark.parametrize(
    ("known", "there", "base"),
    [
        (4, -1, 4),
        (4, 3, 4),
        (4, 2, 4),
        (4, 4, 5),
        (4, 9, 10),
        (0, MAX_SEQUENCE, 0),
        (MAX_SEQUENCE, 1, 2),
        (MAX_SEQUENCE - 1, MAX_SEQUENCE, 0),
        (4, 9 + HALF, 4),
    ],
)
def test_what_a_target_has_is_never_numbered_again(known: int, there: int, base: int) -> None:
    """Or what is decided anew would count as there already, and be lost."""
    route = Route(TARGET, (5, 6), last_sequence=there)
    moves, after = planned([route, Route(OTHER, (7,)), route], {TARGET: known})
    assert [move.base_sequence for move in moves] == [base, 0, (base + 2) & MAX_SEQUENCE]
    assert after == {TARGET: (base + 4) & MAX_SEQUENCE, OTHER: 1}
