"""Orders that stand aside, as small values of a lane."""

from __future__ import annotations

import pytest

from pykbroker.delivery.counted import Holder
from pykbroker.delivery.orders import Order, OrderKind, decode

HOLDER = Holder("grüße", b"t" * 16, 3)


@pytest.mark.parametrize(
    "order",
    [
        Order(commit=7, kind=OrderKind.NACK, holder=HOLDER, offset=9, ranges=((1, 2), (5, 8)), reason="no"),
        Order(commit=1 << 40, kind=OrderKind.REPLAY, holder=HOLDER, ranges=((0, 0),), to="there", rate=0.5),
        Order(commit=0, kind=OrderKind.REWIND, holder=HOLDER, offset=0),
        Order(commit=2, kind=OrderKind.FORGET, holder=HOLDER),
    ],
)
def test_nothing_of_an_order_is_lost_while_it_stands_aside(order: Order) -> None:
    assert decode(order.name, order.encode()) == order


def test_orders_are_taken_up_again_in_the_order_of_their_commits() -> None:
    commits = [0, 1, 255, 256, 65_536, 1 << 40]
    names = [Order(commit=each, kind=OrderKind.REWIND, holder=HOLDER).name for each in commits]
    assert sorted(names) == names
