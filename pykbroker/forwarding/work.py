"""What a lane does, apart from how it is kept: the part that :class:`~pykbroker.forwarding.runner.Runner`
asks.

A lane belongs to an *ingress* place, and has a position that rises.  A :class:`Work` says what the next
step is; the runner makes it durable and executes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.machine import Lane
from pykbroker.forwarding.plan import LaneValue, Move, Place, Plan, Route

Records = Mapping[int, Source]
"""Records of one log by their offsets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is decided next: from the lane's position to ``next_position``, which may be the same.

    ``routes`` say what is moved (``since`` and ``last_sequence`` are filled in by the runner); ``extras``
    are small values of the lane that become durable with the plan, None removes one.  ``records`` are those
    of the routes, by source, where they have been read; of a source that is not named they are read
    (:meth:`Work.read`) before they are moved.  A record that is missing in a source that is named is lost
    to damage, and left out.  ``data`` is for :meth:`Work.planned`.

    Without routes a step costs one append to the log of plans; one that changes nothing is none: return
    None from :meth:`Work.step` instead, or the runner asks again at once.
    """

    next_position: int
    routes: Sequence[Route] = ()
    extras: Sequence[tuple[bytes, bytes | None]] = ()
    records: Mapping[Place | None, Records] = field(default_factory=dict)
    data: object = None


class _Asleep:
    """Wakes nobody: there is no runner yet."""

    def __call__(self) -> None:
        return None


class Work(Protocol):
    """One lane's work.  Inherit from it: what has a body here need not be written again.

    ``label`` is for log lines.  ``wake`` is set by the runner: call it (it is quick, and may be called
    often) when :meth:`step` may have something to do.  All methods are called by tasks of the runner in the
    loop's thread; those that are ``async`` may raise :class:`~pykbroker.errors.KafkaError`: then the lane
    begins again in a second, as after a start (but see :meth:`refused`, :meth:`read`).
    """

    label: str
    wake: Callable[[], None] = _Asleep()

    same_suffix: bool = False
    """Whether :meth:`suffix` depends on the record only: then it is asked once per record and plan."""

    def begin_position(self) -> int:
        """Where the lane begins if it has never been there."""
        ...

    def leader_epoch(self) -> int:
        """The leader epoch of the ingress log now; 0 where the position is no offset of a log."""
        return 0

    def end_of_decided(self, value: LaneValue) -> int:
        """Where the ingress log now ends of what it had when ``value`` was decided, the position at most:
        less than that where a power cut took records.  The plans are cut there (moves from the ingress log
        itself; moves with another source are kept whole)."""
        return value.position

    async def resumed(self, lane: Lane | None, value: LaneValue) -> None:
        """The lane begins, after a start or a failure, with ``lane.extras``; None: it never was there.

        What was decided and is not in ``value`` and ``lane.extras`` was not.  Moves of open plans are
        executed afterwards, by the runner.
        """
        ...

    async def step(self, position: int) -> Step | None:
        """What is next; None: nothing until :attr:`wake` is called.  Asked often, and once at a time."""
        ...

    async def planned(self, step: Step, plan: Plan) -> None:
        """The step is durable; nothing of it is moved yet.  Not called again after a crash."""
        return

    async def read(self, source: Place | None, offsets: Sequence[int]) -> Records:
        """Records to be moved, at offsets in any order.  What is lost is left out.

        Raises :class:`KafkaError` where they cannot be read now: a move that waits is tried again.
        """
        ...

    def suffix(self, move: Move, index: int, record: Source) -> bytes:
        """Key, value and headers of a copy as they lie in a batch; ``record`` is number ``index`` of the
        move.  Must be the same after a crash; a move that was amended or merged counts anew."""
        ...

    def validators(self, target: Place) -> bool:
        """Whether the validators of ``target`` are asked."""
        return False

    async def refused(
        self, move: Move, refused: Mapping[int, str], records: Records
    ) -> Sequence[Route] | None:
        """``move.target`` refuses the records at these offsets for good, and why: it is gone
        (:data:`~pykbroker.forwarding.refusing.GONE`), it is compacted and a record has no key, or a
        validator said so.  Where they go instead (routes name source and note again; an offset in none is
        dropped); None: the move waits and is tried again.

        Raises :class:`KafkaError` likewise.  May be called again for the same records: see :meth:`amended`.
        """
        ...

    async def amended(self, move: Move, refused: Mapping[int, str], instead: Sequence[Route]) -> None:
        """What :meth:`refused` answered is durable; nothing of it is moved yet."""
        return
