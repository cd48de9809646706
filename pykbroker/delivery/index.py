"""When what is due: the due-time index of all held logs, derived from them and rebuilt when it is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pykbroker.delivery.schedule import Released, Row
from pykbroker.forwarding.plan import Place


class IndexUnavailable(Exception):
    """The index cannot be read or written now; the message says what to do."""


class IndexLost(Exception):
    """The index was damaged and begins anew: lanes must look up what of them is indexed."""


class Indexed(NamedTuple):
    """The offset of a held log up to which it is indexed, in which leader epoch."""

    end: int
    leader_epoch: int


class Index(Protocol):
    """All raise :class:`IndexUnavailable` and :class:`IndexLost`.  A lane is a partition of a held log."""

    async def indexed(self, lane: Place) -> Indexed | None: ...
    async def add(self, lane: Place, rows: Sequence[Row], upto: Indexed) -> None: ...
    async def cut(self, lane: Place, upto: Indexed) -> None: ...
    async def above(self, lane: Place, key: Row, limit: int, start: int, end: int) -> Sequence[Row]: ...
    async def late(self, lane: Place, key: Row, limit: int, start: int, end: int) -> Sequence[Row]: ...
    async def purge(self, lane: Place, released: Released) -> int: ...
    async def floor(self, lane: Place) -> int | None: ...
    async def forget(self, topic_ids: Sequence[bytes]) -> None: ...
    async def aclose(self) -> None: ...
