"""Lanes for whoever else moves records: start a :class:`Runner` for any ingress place, see what is durable.

:attr:`~pykbroker.forwarding.service.Forwarding.engine` is the one of a broker.  Its runners stop when
forwarding shuts down, and each when the topic of its ingress place is deleted; its lane is forgotten then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pykbroker.forwarding.machine import Lane
from pykbroker.forwarding.plan import Place
from pykbroker.forwarding.runner import Around, Runner
from pykbroker.forwarding.shards import Shards
from pykbroker.forwarding.work import Work


class Engine:
    """Used in the loop's thread only."""

    def __init__(self, shards: Shards, around: Around) -> None:
        self.shards = shards
        self.around = around

    async def loaded(self, ingress: Place) -> None:
        """Return when it is known what is planned for ``ingress`` (at once if there is no log of plans)."""
        raise NotImplementedError

    def is_loaded(self, ingress: Place) -> bool:
        """Whether it is known."""
        raise NotImplementedError

    def lane(self, ingress: Place) -> Lane | None:
        """The durable state of a lane, live, not to be changed; None: there is none, or not known yet."""
        raise NotImplementedError

    def extras(self, ingress: Place) -> Mapping[bytes, bytes]:
        """The small values of a lane, live; empty if there is no lane, or that is not known yet."""
        raise NotImplementedError

    def settled(self, ingress: Place) -> int:
        """The position below which everything is decided and moved, durably; 0 if not known yet."""
        raise NotImplementedError

    def source_needed_from(self, source: Place) -> int | None:
        """The lowest offset of the log ``source`` that an open plan of any lane still has to move (as a
        named source); None: no plan has, and 0 while that is not known yet."""
        raise NotImplementedError

    def runner(self, ingress: Place) -> Runner | None:
        """The runner that has been started for ``ingress``, if it was not stopped."""
        raise NotImplementedError

    def on_loaded(self, tell: Callable[[int], None]) -> None:
        """Have ``tell`` called with the number of each shard (``shards.index_of(ingress)``) when what it
        holds is known; also, at once, for those that are loaded."""
        raise NotImplementedError

    async def start(self, ingress: Place, work: Work) -> Runner:
        """Start a runner; its lane begins if it has never been there.  Waits for the log of plans.

        One place has one runner: a second start returns the first one.
        """
        raise NotImplementedError

    def stop(self, ingress: Place) -> None:
        """Stop the runner, if there is one; what is planned is executed when it is started again."""
        raise NotImplementedError
