"""The commits of one partition of ``__consumer_offsets`` that may matter, in order, and not all at once.

The coordinator feeds the queue as it applies records (*live*).  What does not fit there, and after a start
all from some offset on, is read from the log instead, when there is room again.  A commit matters if its
metadata may ask for something, or if it may take back what counts: it commits an offset not above the *top*
of its holder, or none any more.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from pykbroker.coordinator.shard_log import ShardLog
from pykbroker.delivery.counted import Holder
from pykbroker.delivery.nacks import may_ask
from pykbroker.groups.stored import OffsetRecord, UnreadableRecord, read

READ_BYTES: Final = 256 * 1024
MAX_QUEUED: Final = 1000
MAX_QUEUED_CHARS: Final = 1_000_000
"""Commits and their metadata that are kept in memory; with more, they are read from the log when due."""


class Queued(NamedTuple):
    """A commit that may matter to ``holder``."""

    offset: int
    holder: Holder
    record: OffsetRecord

    @property
    def asks(self) -> bool:
        """Whether it does not just commit."""
        return self.record.value is not None and may_ask(self.record.value.metadata)

    @property
    def chars(self) -> int:
        """About its size in memory."""
        return 0 if self.record.value is None else len(self.record.value.metadata)


class CommitQueue:
    """See the module.  ``topic_id`` of a name and, where a commit names one, an id: see
    :class:`~pykbroker.delivery.steps.Places`."""

    def __init__(self, commits: ShardLog, topic_id: Callable[[str, bytes | None], bytes | None]) -> None:
        self._commits = commits
        self._topic_id = topic_id
        self._queue: deque[Queued] = deque()
        self._counts: Counter[Holder] = Counter()
        self._chars = 0
        self._tops: dict[Holder, int] = {}
        self.seen = 0
        """The offset up to which commits were looked at."""
        self.is_live = False
        """Whether nothing is to be read from the log."""

    def __bool__(self) -> bool:
        return bool(self._queue)

    def __contains__(self, holder: Holder) -> bool:
        return holder in self._counts

    def begin(self, offset: int) -> None:
        """Forget everything, and begin to read at ``offset``."""
        self._queue.clear()
        self._counts.clear()
        self._tops.clear()
        self._chars = 0
        self.seen, self.is_live = offset, False

    @property
    def first(self) -> Queued | None:
        """What is first in line."""
        return self._queue[0] if self._queue else None

    @property
    def begins(self) -> int | None:
        """The first offset that is in line, or not looked at yet; None: there is nothing."""
        if self._queue:
            return self._queue[0].offset
        return None if self.is_live else self.seen

    def set_top(self, holder: Holder, top: int) -> None:
        """From now on commits up to ``top`` matter to ``holder``; -1: none but those that ask."""
        if top < 0:
            self._tops.pop(holder, None)
        else:
            self._tops[holder] = top

    def applied(self, offset: int, record: OffsetRecord) -> bool:
        """A record is applied; whether it is something new for the queue."""
        if not self.is_live or offset < self.seen:
            return False
        queued = self._matters(offset, record)
        if queued is not None and not self._put(queued):
            self.is_live = False
            return False
        self.seen = offset + 1
        return queued is not None

    async def fill(self) -> None:
        """Take up commits from the log, until the queue is full or there are no more.  Raises KafkaError."""
        commits = self._commits
        self.seen = max(self.seen, commits.start_offset)
        while not self.is_live and self.seen < commits.end_offset:
            found = commits.read(self.seen, READ_BYTES)
            for stored in found.records:
                try:
                    record = read(stored)
                except UnreadableRecord:
                    continue  # the coordinator has complained about it
                if not isinstance(record, OffsetRecord):
                    continue
                queued = self._matters(stored.offset, record)
                if queued is not None and not self._put(queued):
                    self.seen = stored.offset
                    return
            if found.next_offset <= self.seen:
                break
            self.seen = found.next_offset
            await trio.lowlevel.checkpoint()
        self.is_live = True

    def take(self) -> Queued:
        """Take out the first."""
        queued = self._queue.popleft()
        self._chars -= queued.chars
        self._counts[queued.holder] -= 1
        if not self._counts[queued.holder]:
            del self._counts[queued.holder]
        return queued

    def _matters(self, offset: int, record: OffsetRecord) -> Queued | None:
        value = record.value
        asks = value is not None and may_ask(value.metadata)
        if not asks and not self._tops:
            return None
        topic_id = self._topic_id(record.topic, None if value is None else value.topic_id)
        if topic_id is None:
            return None  # the topic is gone, and what counts of it goes with it
        holder = Holder(record.group_id, topic_id, record.partition)
        if not asks:
            top = self._tops.get(holder)
            if top is None or (value is not None and value.offset > top):
                return None
        return Queued(offset, holder, record)

    def _put(self, queued: Queued) -> bool:
        """Put it in line, if there is room."""
        if self._queue and (len(self._queue) >= MAX_QUEUED or self._chars + queued.chars > MAX_QUEUED_CHARS):
            return False
        holder, value = queued.holder, queued.record.value
        self._queue.append(queued)
        self._counts[holder] += 1
        self._chars += queued.chars
        if value is not None:
            # Until it is decided about, whatever it may count matters to later commits.
            self._tops[holder] = max(self._tops.get(holder, -1), value.offset)
        return True
