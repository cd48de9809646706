"""Fetch sessions (KIP-227): what a client fetches, remembered, so that it need not say it each time.

A session is made by a full fetch (session id 0, epoch 0).  From then on the client sends only what
changes, with the session's id and the next epoch, and is sent only what changed.  Epoch -1 asks for a
plain fetch; it and epoch 0 close the session whose id they carry.

Sans-IO: :meth:`FetchSessions.open` takes a request and gives a :class:`FetchContext`, which knows the
partitions that are wanted and turns what became of them into an answer.  A partition is known by
(topic name or id, index), one kind for the whole session.

An unchanged partition is left out of an incremental answer.  Changed means: it has records, its high
watermark or log start moved, it has an error, or its epoch diverges.  One that had records moves to the end
of the session, so that no partition starves the others behind it (FetchSession.scala, Kafka 4.3.1).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final

from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    PartitionData,
)

NO_SESSION: Final = 0
"""Session id that means "none"."""
INITIAL_EPOCH: Final = 0
FINAL_EPOCH: Final = -1
MAX_EPOCH: Final = 2_147_483_647
TOPIC_IDS_SINCE: Final = 13
STALE_AFTER_S: Final = 120.0
"""Unused for so long, a session may be evicted by any other (Kafka: 2 minutes, not configurable)."""

Key = tuple[str | bytes, int]
"""Topic name (below version 13) or topic id, and partition index."""
Answered = tuple[Key, PartitionData]


def next_epoch(epoch: int) -> int:
    """The epoch that the request after the one with ``epoch`` must carry."""
    if epoch < 0:
        return FINAL_EPOCH
    return 1 if epoch == MAX_EPOCH else epoch + 1


class CachedPartition:
    """One partition of a session: what was asked last, and what the client was told last."""

    __slots__ = ("high_watermark", "log_start_offset", "request")

    def __init__(self, request: FetchPartition, told: PartitionData | None = None) -> None:
        self.request = request
        self.high_watermark = -1 if told is None else told.high_watermark
        self.log_start_offset = -1 if told is None else told.log_start_offset

    def must_tell(self, data: PartitionData) -> bool:
        """Whether ``data`` belongs into an incremental answer; remembers it as told."""
        tell = bool(data.records) or data.diverging_epoch.end_offset >= 0
        if data.high_watermark != self.high_watermark:
            self.high_watermark = data.high_watermark
            tell = True
        if data.log_start_offset != self.log_start_offset:
            self.log_start_offset = data.log_start_offset
            tell = True
        if data.error_code:
            self.high_watermark = -1  # so that its recovery is told, too
            tell = True
        return tell


class FetchSession:
    """The partitions that one client follows.  ``used`` and ``created`` are monotonic seconds."""

    __slots__ = ("created", "epoch", "id", "partitions", "privileged", "used", "uses_ids")

    def __init__(
        self,
        session_id: int,
        partitions: dict[Key, CachedPartition],
        *,
        uses_ids: bool,
        privileged: bool,
        now: float,
    ) -> None:
        self.id = session_id
        self.epoch = next_epoch(INITIAL_EPOCH)
        self.partitions = partitions
        self.uses_ids = uses_ids
        self.privileged = privileged
        self.created = self.used = now


class FetchContext:
    """A fetch outside any session: all that was asked, all that is answered."""

    __slots__ = ("partitions",)

    def __init__(self, partitions: dict[Key, FetchPartition]) -> None:
        self.partitions = partitions

    def wanted(self) -> Iterable[tuple[Key, FetchPartition]]:
        """The partitions to read, in order."""
        return self.partitions.items()

    def answer(self, answered: list[Answered]) -> FetchResponse:
        """The response for what became of the wanted partitions, in the same order."""
        return FetchResponse(responses=group(answered))


class FullContext(FetchContext):
    """A full fetch that asks for a session; whether it gets one is decided when it is answered."""

    __slots__ = ("_open",)

    def __init__(
        self, partitions: dict[Key, FetchPartition], open_session: Callable[[list[Answered]], int]
    ) -> None:
        super().__init__(partitions)
        self._open = open_session

    def answer(self, answered: list[Answered]) -> FetchResponse:
        return FetchResponse(session_id=self._open(answered), responses=group(answered))


class IncrementalContext(FetchContext):
    """A fetch within a session."""

    __slots__ = ("_expected_epoch", "_session")

    def __init__(self, session: FetchSession) -> None:
        super().__init__({})
        self._session = session
        self._expected_epoch = session.epoch

    def wanted(self) -> Iterable[tuple[Key, FetchPartition]]:
        return [(key, cached.request) for key, cached in self._session.partitions.items()]

    def answer(self, answered: list[Answered]) -> FetchResponse:
        session = self._session
        if session.epoch != self._expected_epoch:  # a second request of the session overtook a parked one
            return FetchResponse(
                error_code=ErrorCode.INVALID_FETCH_SESSION_EPOCH, session_id=session.id, responses=[]
            )
        told: list[Answered] = []
        for key, data in answered:
            cached = session.partitions[key]
            if not cached.must_tell(data):
                continue
            told.append((key, data))
            if data.records:
                session.partitions[key] = session.partitions.pop(key)
        return FetchResponse(session_id=session.id, responses=group(told))


class FetchSessions:
    """The sessions of all clients, at most ``slots`` (``max.incremental.fetch.session.cache.slots``).

    When full, a new session takes the place of the longest unused one if that is stale; else of the
    smallest one older than two minutes, if that is smaller than the new one; else it is refused, and the
    client goes on with full fetches.  Sessions of replicas are ``privileged``: they take the place of any
    client's and lose theirs only to each other.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._sessions: dict[int, FetchSession] = {}  # in order of last use
        self.evicted = 0
        """Sessions that lost their slot to another one."""

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, request: FetchRequest, version: int, now: float) -> FetchContext | ErrorCode:
        """The context of ``request``; an error code is the top-level error to answer with."""
        uses_ids = version >= TOPIC_IDS_SINCE
        session_id, epoch = request.session_id, request.session_epoch
        asked = asked_partitions(request, uses_ids=uses_ids)
        if epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            self._sessions.pop(session_id, None)
            if epoch == FINAL_EPOCH:
                return FetchContext(asked)
            privileged = request.replica_id >= 0 or request.replica_state.replica_id >= 0
            return FullContext(
                asked,
                lambda answered: self._create(
                    asked, answered, uses_ids=uses_ids, privileged=privileged, now=now
                ),
            )
        session = self._sessions.get(session_id)
        if session is None:
            return ErrorCode.FETCH_SESSION_ID_NOT_FOUND
        if session.epoch != epoch:
            return ErrorCode.INVALID_FETCH_SESSION_EPOCH
        if session.uses_ids != uses_ids:
            return ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
        if asked or request.forgotten_topics_data:
            _update(session.partitions, asked, request)
        if not session.partitions:
            del self._sessions[session_id]
            return FetchContext(asked)
        session.used = now
        self._sessions[session_id] = self._sessions.pop(session_id)
        session.epoch = next_epoch(epoch)
        return IncrementalContext(session)

    def _create(
        self,
        asked: dict[Key, FetchPartition],
        answered: list[Answered],
        *,
        uses_ids: bool,
        privileged: bool,
        now: float,
    ) -> int:
        if len(self._sessions) >= self._slots and not self._evict(
            len(answered), privileged=privileged, now=now
        ):
            return NO_SESSION
        session_id = random.randint(1, MAX_EPOCH)
        while session_id in self._sessions:
            session_id = random.randint(1, MAX_EPOCH)
        partitions = {key: CachedPartition(asked[key], data) for key, data in answered}
        self._sessions[session_id] = FetchSession(
            session_id, partitions, uses_ids=uses_ids, privileged=privileged, now=now
        )
        return session_id

    def _evict(self, size: int, *, privileged: bool, now: float) -> bool:
        victim = next(iter(self._sessions.values()), None)
        if victim is None:
            return False
        if now - victim.used <= STALE_AFTER_S:
            victim = min(
                (
                    session
                    for session in self._sessions.values()
                    if now - session.created > STALE_AFTER_S or (privileged and not session.privileged)
                ),
                key=_worth,
                default=None,
            )
            if victim is None or (privileged, size) < _worth(victim):
                return False
        del self._sessions[victim.id]
        self.evicted += 1
        return True


def _worth(session: FetchSession) -> tuple[bool, int]:
    return session.privileged, len(session.partitions)


def asked_partitions(request: FetchRequest, *, uses_ids: bool) -> dict[Key, FetchPartition]:
    """The partitions that ``request`` names, in its order; of one named twice the last counts."""
    asked: dict[Key, FetchPartition] = {}
    for topic in request.topics:
        name: str | bytes = topic.topic_id if uses_ids else topic.topic
        for partition in topic.partitions:
            asked[name, partition.partition] = partition
    return asked


def _update(
    partitions: dict[Key, CachedPartition], asked: dict[Key, FetchPartition], request: FetchRequest
) -> None:
    for key, partition in asked.items():
        cached = partitions.get(key)
        if cached is None:
            partitions[key] = CachedPartition(partition)
        else:
            cached.request = partition
    for topic in request.forgotten_topics_data:
        for index in topic.partitions:
            partitions.pop((topic.topic, index), None)
            partitions.pop((topic.topic_id, index), None)


def group(answered: list[Answered]) -> list[FetchableTopicResponse]:
    """Answers put together by topic where they follow each other."""
    topics: list[FetchableTopicResponse] = []
    last: str | bytes | None = None
    for (name, _), data in answered:
        if name != last:
            last = name
            if isinstance(name, str):
                topics.append(FetchableTopicResponse(topic=name, partitions=[]))
            else:
                topics.append(FetchableTopicResponse(topic_id=name, partitions=[]))
        topics[-1].partitions.append(data)
    return topics
