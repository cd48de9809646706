"""What a topic with retries must look like to those who read it, whatever happens to the broker.

In the words of the documentation, as one would predict it with pencil and paper: there are no offsets of
hidden logs here, no plans and no lanes.  A record is what a consumer sees of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from pykbroker.records.decode import Record
from tests.delivery.whole_world import ELSEWHERE, GROUPS, ORIGIN, PARTITIONS, SHARED

Header = tuple[str, bytes | None]
Where = tuple[str, int]
"""A partition, by the name of its topic."""
LATE_MS: Final = 1000
"""By so much a record may be late after the clock was set back, while others wait for the clock."""


class Seen(NamedTuple):
    """A record.  ``said``: the broker's headers, by name; ``own``: the others, in order."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    own: tuple[Header, ...] = ()
    said: tuple[tuple[str, bytes], ...] = ()

    def saying(self, **said: object) -> Seen:
        """With these headers of the broker, without those that are None."""
        named = {f"pykbroker-{name.replace('_', '-')}": value for name, value in said.items()}
        return self._replace(said=_sorted(named))

    def says(self, name: str) -> bytes | None:
        """The value of a header of the broker."""
        return dict(self.said).get(f"pykbroker-{name}")


def _sorted(said: dict[str, object]) -> tuple[tuple[str, bytes], ...]:
    return tuple(sorted((name, str(value).encode()) for name, value in said.items() if value is not None))


def is_brokers(name: str) -> bool:
    return name.startswith(("pykbroker-", "__dlq.errors."))


def seen(record: Record) -> Seen:
    """What a consumer sees; each of the broker's headers is there once at most."""
    said = [(name, value) for name, value in record.headers if is_brokers(name)]
    assert len(dict(said)) == len(said), record.headers
    assert all(value is not None for _, value in said)
    own = tuple(header for header in record.headers if not is_brokers(header[0]))
    return Seen(record.key, record.value, record.timestamp, own, tuple(sorted(said)))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Policy:
    """What is set for a group, or for a topic."""

    name: str
    attempts: int
    delay_ms: int
    max_delay_ms: int

    def delay(self, attempt: int) -> int:
        """How long a record waits after so many failures."""
        usual = {"immediate": 0, "fixed": self.delay_ms, "linear": self.delay_ms * attempt}[self.name]
        return min(usual, self.max_delay_ms)

    @property
    def values(self) -> dict[str, str]:
        """As it is set."""
        return {
            "pykbroker.retry.policy": self.name,
            "pykbroker.retry.max.attempts": str(self.attempts),
            "pykbroker.retry.delay.ms": str(self.delay_ms),
            "pykbroker.retry.max.delay.ms": str(self.max_delay_ms),
        }


class Waits(NamedTuple):
    """A record that is to be read at some time; ``number``: in the order in which that was decided."""

    due_ms: int
    number: int
    record: Seen


def retry_topic(group: str) -> str:
    return f"{ORIGIN}.{group}.retry"


@dataclass(slots=True)
class Model:
    """``shared``: all dead letters go to one topic."""

    shared: bool
    topic_policy: Policy
    group_policies: dict[str, Policy] = field(default_factory=dict)
    logs: dict[Where, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    starts: dict[Where, int] = field(default_factory=lambda: defaultdict(int))
    waiting: dict[Where, list[Waits]] = field(default_factory=lambda: defaultdict(list))
    counted: dict[tuple[str, Where], set[int]] = field(default_factory=lambda: defaultdict(set))
    pace: dict[str, int] = field(default_factory=dict)
    is_ordered: bool = True
    """Whether the clock was never set back."""
    number: int = 0
    letters_partitions: int = field(init=False)

    def __post_init__(self) -> None:
        self.letters_partitions = 1 if self.shared else PARTITIONS

    def places(self) -> list[Where]:
        """All that anybody reads."""
        names = [ORIGIN, *(retry_topic(group) for group in GROUPS)]
        if not self.shared:
            names += [self.letters_topic(group) for group in GROUPS]
        if self.shared:
            names.append(SHARED)
        return [(ELSEWHERE, 0), *((name, number) for name in names for number in range(PARTITIONS))]

    def letters_topic(self, group: str) -> str:
        return SHARED if self.shared else f"{ORIGIN}.{group}.dlq"

    def policy(self, group: str) -> Policy:
        """A group's settings win."""
        return self.group_policies.get(group, self.topic_policy)

    # -- failures

    def produced(self, group: str, partition: int, record: Seen, reason: str | None, now_ms: int) -> None:
        """A consumer sends a record to the group's retry topic, with the headers that it came with."""
        if reason is not None:
            said = {**{name: value.decode() for name, value in record.said}, "pykbroker-reason": reason}
            record = record._replace(said=_sorted(dict(said)))
        self._fails(group, partition, record, now_ms)

    def committed(
        self, group: str, where: Where, offset: int, nacked: Iterable[int], reason: str | None, now_ms: int
    ) -> None:
        """A group commits, and some of what lies below that has failed."""
        topic, partition = where
        counts = self.counted[group, where]
        counts -= {each for each in counts if each >= offset}
        if not self.interprets(group, topic):
            return
        for each in sorted(nacked):
            if each in counts or not self.starts[where] <= each < len(self.logs[where]):
                continue
            counts.add(each)
            record = self.logs[where][each]
            if topic == ORIGIN:
                source = f"{ORIGIN}/{partition}/{each}"
                record = record.saying(source=source, group=group, reason=reason)
            else:
                said: dict[str, object] = {name: value.decode() for name, value in record.said}
                record = record._replace(said=_sorted({**said, "pykbroker-reason": reason}))
            self._fails(group, partition, record, now_ms)

    def interprets(self, group: str, topic: str) -> bool:
        """Whether a nack means anything there."""
        if topic == ORIGIN:
            return self.policy(group).name != "none"
        return topic == retry_topic(group)

    def _fails(self, group: str, partition: int, record: Seen, now_ms: int) -> None:
        """One failure counts: what becomes of the record."""
        source, policy = record.says("source"), self.policy(group)
        believed = source is not None and record.says("group") == group.encode()
        before = int(record.says("attempt") or 0) if believed else 0
        attempt = before + 1
        first_ms = int(record.says("first-failure-ms") or now_ms) if before else now_ms
        origin = source.decode() if believed and source is not None else ORIGIN
        reason = record.says("reason")
        failed = record.saying(
            source=origin,
            group=group,
            attempt=attempt,
            first_failure_ms=first_ms,
            last_failure_ms=now_ms,
            policy=policy.name,
            reason=None if reason is None else reason.decode(),
        )
        if policy.name != "none" and attempt <= policy.attempts:
            self._wait((retry_topic(group), partition), now_ms + policy.delay(attempt), failed)
            return
        topic, *place = origin.split("/")
        letter: dict[str, object] = dict(zip(("partition", "offset"), place, strict=False))
        letter |= {"topic": topic, "group": group, "delivery.count": attempt}
        if reason is not None:
            letter["message"] = reason.decode()
        theirs = _sorted({f"__dlq.errors.{name}": value for name, value in letter.items()})
        to = self.letters_topic(group), partition % self.letters_partitions
        self._wait(to, now_ms, failed._replace(said=tuple(sorted((*failed.said, *theirs)))))

    def _wait(self, where: Where, due_ms: int, record: Seen) -> None:
        self.number += 1
        self.waiting[where].append(Waits(due_ms, self.number, record))

    # -- dead letters

    def replayed(
        self, where: Where, offsets: Iterable[int], to: str | None, rate: int | None, now_ms: int
    ) -> None:
        """Letters go back, ``rate`` in a second, each once, as they were produced."""
        topic, partition = where
        due_ms = now_ms if rate is None else max(now_ms, self.pace.get(topic, 0))
        settled = self.counted["dlq", where]
        for each in sorted(offsets):
            if each in settled or each >= len(self.logs[where]):
                continue
            settled.add(each)
            letter = self.logs[where][each]
            source = (letter.says("source") or b"").split(b"/")
            number = int(source[1]) if len(source) > 1 else partition
            place = (ELSEWHERE, 0) if to == ELSEWHERE else (ORIGIN, number)
            self._wait(place, due_ms, letter._replace(said=()))
            if rate is not None:
                due_ms = self.pace[topic] = due_ms + 1000 // rate

    def purged(self, where: Where, offsets: Iterable[int]) -> None:
        """Letters are settled."""
        self.counted["dlq", where].update(each for each in offsets if each < len(self.logs[where]))

    # -- the world

    def deleted(self, topic: str) -> None:
        """A topic goes with all that was in it, and with what counts there; what waits for it waits."""
        for number in range(PARTITIONS):
            self.logs.pop((topic, number), None)
            for key in [each for each in self.counted if each[1] == (topic, number)]:
                del self.counted[key]
        self.pace.pop(topic, None)
        if topic == SHARED:
            self.letters_partitions = PARTITIONS  # it is made again like the group's own

    def read(self, where: Where, start: int, found: list[Seen], now_ms: int) -> None:
        """This is what is read there now; raises AssertionError if it is not what must be."""
        known, waiting = self.logs[where], self.waiting[where]
        assert start == self.starts[where]
        old = len(known) - start
        assert found[:old] == known[start:], (where, "what was there has changed")
        new, rest = found[old:], sorted(waiting)
        if self.is_ordered:
            due = [each.record for each in rest if each.due_ms <= now_ms]
            assert new == due, (where, now_ms)
            rest = rest[len(due) :]
        else:
            for record in new:
                match = next((each for each in rest if each.record == record), None)
                assert match is not None, (where, "that is not to be here", record)
                assert match.due_ms <= now_ms, (where, "before its time", record)
                rest.remove(match)
            late = [each for each in rest if each.due_ms + LATE_MS <= now_ms]
            assert not late, (where, now_ms, "is late", late)
        known += new
        self.waiting[where] = rest

    @property
    def last_due_ms(self) -> int:
        """When nothing waits any more."""
        return max((each.due_ms for every in self.waiting.values() for each in every), default=0)

    def altered(self, group: str | None, policy: Policy | None) -> None:
        """Settings of a group (None: not its own any more), or of the topic."""
        if group is None:
            assert policy is not None
            self.topic_policy = replace(policy)
        elif policy is None:
            self.group_policies.pop(group, None)
        else:
            self.group_policies[group] = policy
