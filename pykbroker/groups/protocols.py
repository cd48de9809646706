"""Choosing the assignment strategy of a group: pure functions over what members offer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pykbroker.groups.messages import Protocol

Offer = Sequence[Protocol]
"""What a member supports, most wanted first."""


def common(offers: Sequence[Offer]) -> set[str]:
    """The names that every member supports; all of none."""
    if not offers:
        return set()
    return set.intersection(*({protocol.name for protocol in offer} for offer in offers))


def fits(offer: Offer, others: Iterable[Offer]) -> bool:
    """Whether a member with ``offer`` shares a protocol with all ``others`` at once."""
    left = {protocol.name for protocol in offer}
    for other in others:
        left.intersection_update(protocol.name for protocol in other)
    return bool(left)


def choose(offers: Sequence[Offer]) -> str:
    """The protocol of the next generation: each member votes for its first common one.

    Of those with most votes, the one that was voted for first.  The members are known to have one in
    common.
    """
    candidates = common(offers)
    votes = Counter(next(p.name for p in offer if p.name in candidates) for offer in offers)
    return max(votes, key=votes.__getitem__)


def metadata(offer: Offer, name: str) -> bytes:
    """A member's metadata for protocol ``name``, which it supports."""
    return next(protocol.metadata for protocol in offer if protocol.name == name)
