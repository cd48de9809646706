"""Letters on their way back, as commands show them; a broker that does not say so has none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pykbroker.cli._letters import age_text
from pykbroker.cli._waiting import Stuck, moment

RETURNING = "pykbroker.dead.letter.returning"


@dataclass(frozen=True, kw_only=True)
class Way:
    """``letters`` of a partition (None: of all) go to the topic ``to``, the last one at ``until_ms``."""

    partition: int | None
    to: str
    letters: int
    until_ms: int


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """``letters`` of a partition are ordered back, and not on their way.  ``why``: that cannot be now."""

    partition: int
    letters: int
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Returning:
    """Those of one dead-letter topic.  ``now_ms``: the time of the broker, None where it does not tell."""

    now_ms: int | None = None
    ways: Sequence[Way] = ()
    ordered: Sequence[Ordered] = ()
    stuck: Sequence[Stuck] = ()
    """What has come to its time and cannot get there, also from other dead-letter topics."""

    @staticmethod
    def parse(text: str) -> Returning:
        """From the setting."""
        found = json.loads(text or "{}")
        return Returning(
            now_ms=found.get("now_ms"),
            ways=[Way(**each) for each in found.get("returning", ())],
            ordered=[
                Ordered(partition=each["partition"], letters=each["records"], why=each["why"])
                for each in found.get("ordered", ())
            ],
            stuck=[Stuck.of(each) for each in found.get("stuck", ())],
        )

    @property
    def letters(self) -> int:
        """How many are on their way."""
        return sum(each.letters for each in self.ways) + sum(each.letters for each in self.ordered)

    def lines(self, topic: str) -> Iterator[str]:
        """For people."""
        for way in self.ways:
            at = moment(way.until_ms)
            left = "" if self.now_ms is None else f" (in {age_text(way.until_ms - self.now_ms)})"
            leaves = (
                f"{_letters(way.letters, 'is', 'are')} on the way back from {_place(topic, way.partition)}"
            )
            yield f"{leaves} to {way.to}, the last at about {at}{left}"
        for order in self.ordered:
            why = f": {order.why}; it is tried again by itself" if order.why else ", which takes a while"
            yield (
                f"{_letters(order.letters, 'has', 'have')} yet to leave {_place(topic, order.partition)}{why}"
            )
        for each in self.stuck:
            yield f"letters have come to their time and wait: {each}"

    def fields(self) -> dict[str, object]:
        """For a row of JSON."""
        return {
            "returning": self.letters,
            "returning_to": [vars(each) for each in self.ways],
            "returning_ordered": [vars(each) for each in self.ordered],
            "returning_stuck": [vars(each) for each in self.stuck],
        }


NOTHING = Returning()


def _place(topic: str, partition: int | None) -> str:
    return topic if partition is None else f"{topic}/{partition}"


def _letters(count: int, one: str, more: str) -> str:
    return f"1 letter {one}" if count == 1 else f"{count} letters {more}"
