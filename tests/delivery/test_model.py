"""Any order of failures, commits, steps, settings, deletions, clocks and crashes: each failure counts once.

The model is a few counters: how often each record has failed how many times, and what was then decided.
What a record says of itself tells which it is: its value, and the tag that a client gave it when it
produced it to the retry topic.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import count
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pykbroker.catalog.retrying import RetrySettings, Role, RoleKind
from pykbroker.components import DeadLetter, Discard, Retry, RetryContext, RetryDecision
from pykbroker.delivery.deciding import FALLBACK, Fate
from pykbroker.delivery.schedule import Batch
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.plan import Place
from pykbroker.records.build import RecordData
from pykbroker.records.varint import read_varint
from tests.delivery.machinery import (
    COMMITS,
    DELAYED,
    HELD,
    LANES,
    LETTERS,
    PARTITION,
    Commit,
    Crash,
    Machinery,
)

ORIGIN, GROUP, DEAD_LETTERS = "orders", "billing", "orders.billing.dlq"
ROLE = Role(RoleKind.RETRY, ORIGIN, GROUP)
HOUR_MS = 3_600_000
STAMP = 1_000
DELAYS_MS = st.sampled_from([0, 1, 50, 500, 5_000, 50_000])
STEPS = st.integers(1, 6)
ANSWERS = st.one_of(st.builds(Retry, DELAYS_MS), st.sampled_from([DeadLetter(), Discard(), None, Retry(500)]))
LANE = st.sampled_from(sorted(LANES))


class Who(NamedTuple):
    """A record that has failed ``attempt`` times, as it says itself."""

    value: bytes
    tag: bytes | None
    attempt: int


class Told(NamedTuple):
    """What was decided about a record that is held, by the model."""

    who: Who
    fate: Fate
    due_ms: int
    policy: str
    last_failure_ms: int


def only(record: Source, name: str) -> bytes | None:
    """The value of a header that is there once at most."""
    values = [value for each, value in record.headers if each == name]
    assert len(values) <= 1, record.headers
    return values[0] if values else None


def who(record: Source) -> Who:
    tag = [value for name, value in record.headers if name == "tag"]
    return Who(value_of(record), tag[-1] if tag else None, int(only(record, "pykbroker-attempt") or 0))


def value_of(record: Source) -> bytes:
    length, at = read_varint(record.body, 0)
    length, at = read_varint(record.body, at + max(0, length))
    return record.body[at : at + length]


def own(record: Source) -> list[tuple[str, bytes | None]]:
    """The headers that are not the broker's."""
    return [each for each in record.headers if not each[0].startswith(("pykbroker-", "__dlq."))]


class Deliveries(RuleBasedStateMachine):
    """One partition, one group, all its failures."""

    @initialize(max_bytes=st.sampled_from([300, 1 << 20]))
    def begin(self, max_bytes: int) -> None:
        self.ids = (bytes([kind, number]) * 8 for number in count() for kind in b"xy")
        self.origin = Place(next(self.ids), PARTITION)
        face = Place(next(self.ids), PARTITION)
        self.machinery = Machinery(ROLE, face, max_bytes)
        self.machinery.origins = {self.origin.topic_id: False, face.topic_id: True}
        self.values = (b"r%d" % number for number in count())
        self.tags = (b"t%d" % number for number in count())
        self.committed: dict[bytes, int] = defaultdict(int)
        self.counted: dict[bytes, set[int]] = defaultdict(set)
        self.max_attempts, self.delay_ms, self.max_delay_ms = 2, 500, 5_000
        self.failed: Counter[Who] = Counter()
        self.arrived: Counter[Who] = Counter()
        self.told: list[Told] = []
        """By offset in the held log."""
        self.planned: set[int] = set()
        self.latest_ms = self.machinery.now_ms
        self.face_was_deleted = False
        self.back = self.machinery.older_index()
        self.produce(5)

    # -- clients

    @rule(number=st.integers(1, 3))
    def produce(self, number: int) -> None:
        for _ in range(number):
            value = next(self.values)
            own_headers = [("h", b"1"), ("h", None), ("pykbroker-attempt", b"77")]
            self.machinery.logs.produce(self.origin, RecordData(b"k" + value, value, STAMP, own_headers))

    def delivered(self, place: Place) -> list[Source]:
        return self.machinery.logs.records[place]

    @rule(data=st.data(), returned=st.booleans(), reason=st.booleans())
    def fail_by_produce(self, data: st.DataObject, returned: bool, reason: bool) -> None:
        """The headers go back as they came, with something of the client's own behind them."""
        records = self.delivered(self.machinery.face if returned else self.origin)
        for record in (
            data.draw(st.lists(st.sampled_from(records), min_size=1, max_size=5)) if records else ()
        ):
            tag = next(self.tags)
            given = [*record.headers, ("tag", tag)]
            if reason:
                given.append(("pykbroker-reason", b"told"))
            self.machinery.logs.produce(
                DELAYED, RecordData(record.key, value_of(record), record.timestamp, given)
            )
            # A record of the origin may say what it likes.
            attempt = who(record).attempt if returned else 0
            self.failed[Who(value_of(record), tag, attempt)] += 1

    @rule(data=st.data(), returned=st.booleans())
    def commit(self, data: st.DataObject, returned: bool) -> None:
        """Forwards, again, or back, with nacks of anything below it."""
        place = self.machinery.face if returned else self.origin
        records = self.delivered(place)
        offset = data.draw(st.one_of(st.just(len(records)), st.integers(0, len(records))))
        ranges: list[object] = []
        named: set[int] = set()
        for _ in range(data.draw(st.integers(0, 4)) if offset else 0):
            first = data.draw(st.integers(0, offset - 1))
            last = data.draw(st.integers(first, offset - 1))
            ranges.append(first if first == last else [first, last])
            named.update(range(first, last + 1))
        metadata = json.dumps({"nack": ranges, "reason": "told"}) if ranges else "nothing"
        self.applied(Commit(place.topic_id, offset, metadata), named, records, returned)

    @rule(returned=st.booleans())
    def all_fail(self, returned: bool) -> None:
        """Those that have not failed yet, by nack."""
        place = self.machinery.face if returned else self.origin
        records = self.delivered(place)
        if records:
            metadata = json.dumps({"nack": [[0, len(records) - 1]]})
            commit = Commit(place.topic_id, len(records), metadata)
            self.applied(commit, set(range(len(records))), records, returned)

    def applied(self, commit: Commit, named: set[int], records: list[Source], returned: bool) -> None:
        self.machinery.commits.append(commit)
        counts = self.counted[commit.topic_id]
        counts.difference_update([offset for offset in counts if offset >= commit.offset])
        for offset in sorted(named - counts):
            if offset < len(records):
                record = records[offset]
                attempt = who(record).attempt if returned else 0
                self.failed[who(record)._replace(attempt=attempt)] += 1
        counts |= named

    @precondition(lambda self: self.machinery.commits)
    @rule(times=st.integers(1, 3))
    def repeat_commit(self, times: int) -> None:
        """The client did not get the answer."""
        last = self.machinery.commits[-1]
        self.machinery.commits += [last] * times

    # -- the broker's steps

    @precondition(lambda self: self.machinery.uncopied_commits)
    @rule(number=STEPS)
    def follow(self, number: int) -> None:
        self.machinery.follow(number)

    @precondition(lambda self: self.machinery.undecided)
    @rule(number=STEPS, answer=ANSWERS)
    def arrive(self, number: int, answer: RetryDecision | None) -> None:
        machinery = self.machinery
        asked: list[RetryContext] = []

        def ask(ctx: RetryContext) -> RetryDecision | None:
            asked.append(ctx)
            return answer

        came = self.delivered(DELAYED)[machinery.decided :][:number]
        outcomes = machinery.arrive(number, self.retry_settings, ask)
        assert len(outcomes) == len(came) == len(asked)
        for record, outcome, ctx in zip(came, outcomes, asked, strict=True):
            told = self.expected(record, answer)
            self.arrived[told.who._replace(attempt=told.who.attempt - 1)] += 1
            assert (outcome.fate, outcome.due_ms, outcome.attempt) == (told.fate, told.due_ms, ctx.attempt)
            assert ctx.attempt == told.who.attempt
            self.told.append(told)

    @property
    def retry_settings(self) -> RetrySettings:
        return RetrySettings(
            policy="mine",
            max_attempts=self.max_attempts,
            delay_ms=self.delay_ms,
            max_delay_ms=self.max_delay_ms,
            retry_topic="orders.billing.retry",
            dead_letter_topic=DEAD_LETTERS,
            shared_dead_letter=False,
            overrides={},
        )

    def expected(self, record: Source, answer: RetryDecision | None) -> Told:
        """What must become of it now, in the words of the documentation."""
        trusted = (only(record, "pykbroker-source") or b"").split(b"/")[0] == ORIGIN.encode()
        before = int(_last(record, "pykbroker-attempt") or 0) if trusted else 0
        value, tag, _ = _identity(record)
        this = Who(value, tag, before + 1)
        now_ms = self.machinery.now_ms
        delay_ms = self.delay_ms if answer is None else getattr(answer, "delay_ms", 0)
        policy = FALLBACK if answer is None else "mine"
        if isinstance(answer, Discard):
            return Told(this, Fate.DISCARD, now_ms, policy, now_ms)
        if isinstance(answer, DeadLetter) or this.attempt > self.max_attempts:
            return Told(this, Fate.DEAD_LETTER, now_ms, policy, now_ms)
        return Told(this, Fate.RETRY, now_ms + min(delay_ms, self.max_delay_ms), policy, now_ms)

    @precondition(lambda self: self.machinery.unindexed)
    @rule(number=STEPS)
    def index(self, number: int) -> None:
        self.machinery.index_more(number)

    @precondition(lambda self: self.machinery.unreleased)
    @rule()
    def release(self) -> None:
        batch = self.machinery.release()
        if batch is not None:
            self.planned_now(batch)

    def planned_now(self, batch: Batch) -> None:
        for row in batch.rows:
            told = self.told[row.offset]
            assert told.due_ms <= self.machinery.now_ms, "released before its time"
            assert row.offset not in self.planned, "released twice"
            self.planned.add(row.offset)

    @precondition(lambda self: any(map(self.machinery.next_move, LANES)))
    @rule(lane=LANE)
    def execute(self, lane: Place) -> None:
        lane = self.busy(lane)
        self.machinery.execute(lane)

    def busy(self, lane: Place) -> Place:
        """That lane, or one that has something to do."""
        return min(LANES, key=lambda each: (self.machinery.next_move(each) is None, each != lane))

    @rule(answer=ANSWERS, ms=st.sampled_from([0, 600, 6_000, HOUR_MS, -60_000]))
    def all_goes_on(self, answer: RetryDecision | None, ms: int) -> None:
        """What a broker does that is left alone for a while."""
        self.machinery.follow(len(self.machinery.commits))
        self.execute_all(COMMITS)
        self.arrive(len(self.delivered(DELAYED)), answer)
        self.machinery.index_more(len(self.told))
        self.time_goes_on(ms)
        self.release_all()
        self.execute_all(HELD)

    @precondition(lambda self: any(self.machinery.done.values()))
    @rule(lane=LANE)
    def finish(self, lane: Place) -> None:
        self.machinery.finish(lane)

    @precondition(lambda self: any(map(self.machinery.next_move, LANES)))
    @rule(lane=LANE)
    def merge(self, lane: Place) -> None:
        self.machinery.merge(lane)

    @rule()
    def purge(self) -> None:
        self.machinery.purge()

    @rule()
    def clean(self) -> None:
        self.machinery.clean()

    # -- the world

    @rule(ms=st.sampled_from([1, 60, 600, 6_000, HOUR_MS]))
    def time_goes_on(self, ms: int) -> None:
        self.machinery.now_ms += ms
        self.latest_ms = max(self.latest_ms, self.machinery.now_ms)

    @rule(ms=st.sampled_from([1, 400, 4_000, 60_000]))
    def clock_is_set_back(self, ms: int) -> None:
        self.machinery.now_ms -= ms

    @rule(attempts=st.integers(0, 4), delay_ms=DELAYS_MS, most_ms=DELAYS_MS)
    def settings_change(self, attempts: int, delay_ms: int, most_ms: int) -> None:
        self.max_attempts, self.delay_ms, self.max_delay_ms = attempts, delay_ms, most_ms

    @rule(compacted=st.booleans(), index=st.sampled_from(["kept", "kept", "older", "lost"]))
    def crash(self, compacted: bool, index: str) -> None:
        if compacted:
            self.machinery.plans.compact()
        if index == "older":
            self.back()
        elif index == "lost":
            self.machinery.forget_index()
        self.machinery.start()
        self.back = self.machinery.older_index()

    @precondition(lambda self: any(map(self.machinery.next_move, LANES)))
    @rule(lane=LANE, appends=st.integers(0, 3), after=st.booleans())
    def crash_in_a_move(self, lane: Place, appends: int, after: bool) -> None:
        machinery, lane = self.machinery, self.busy(lane)
        machinery.logs.appends_left, machinery.logs.after = appends, after
        try:
            machinery.execute(lane)
        except* Crash:
            pass
        machinery.start()

    @precondition(lambda self: self.machinery.undecided)
    @rule(after=st.booleans(), number=STEPS)
    def crash_while_arriving(self, after: bool, number: int) -> None:
        """What is asked again may be answered otherwise, unless it is held."""
        machinery = self.machinery
        came = self.delivered(DELAYED)[machinery.decided :][:number]
        machinery.logs.appends_left, machinery.logs.after = 0, after
        try:
            machinery.arrive(number, self.retry_settings, lambda ctx: Retry(7))
        except Crash:
            pass
        if after:
            for record in came:
                told = self.expected(record, Retry(7))
                self.arrived[told.who._replace(attempt=told.who.attempt - 1)] += 1
                self.told.append(told)
        machinery.start()

    @precondition(lambda self: not self.machinery.logs.forgetful)
    @rule()
    def producers_are_forgotten(self) -> None:
        self.machinery.logs.forgetful = True

    @precondition(lambda self: self.machinery.is_following_done)
    @rule()
    def origin_is_made_again(self) -> None:
        """What has failed already stays in the flow."""
        self.machinery.logs.delete(self.origin)
        self.origin = Place(next(self.ids), PARTITION)
        self.machinery.origins[self.origin.topic_id] = False

    @precondition(lambda self: self.machinery.is_following_done)
    @rule()
    def retry_topic_is_made_again(self) -> None:
        """What waits goes to the new one; what was there is gone."""
        self.machinery.logs.delete(self.machinery.face)
        self.machinery.face = Place(next(self.ids), PARTITION)
        self.machinery.origins[self.machinery.face.topic_id] = True
        self.face_was_deleted = True

    # -- what must hold

    @invariant()
    def nothing_can_be_read_before_its_time_or_twice(self) -> None:
        if not hasattr(self, "machinery"):
            return
        for fate, places in ((Fate.RETRY, self.faces()), (Fate.DEAD_LETTER, [self.delivered(LETTERS)])):
            planned = Counter(
                told.who
                for offset, told in enumerate(self.told)
                if told.fate is fate and offset in self.planned
            )
            for records in places:
                assert Counter(map(who, records)) <= planned

    def faces(self) -> list[list[Source]]:
        """The retry topic and those that it was before."""
        gone = self.machinery.logs.gone
        return [
            self.delivered(self.machinery.face),
            *(gone[place] for place in gone if self.machinery.origins.get(place.topic_id)),
        ]

    def teardown(self) -> None:
        if not hasattr(self, "machinery"):
            return
        machinery = self.machinery
        if len(self.told) % 2:
            machinery.start()
        machinery.follow(len(machinery.commits))
        self.execute_all(COMMITS)
        self.arrive(len(self.delivered(DELAYED)), Retry(HOUR_MS))
        assert machinery.decided == len(self.delivered(DELAYED)) == len(self.told)
        machinery.now_ms = self.latest_ms + 2 * HOUR_MS
        machinery.index_more(len(self.told))
        self.release_all()
        self.execute_all(HELD)
        self.check()

    def release_all(self) -> None:
        while (batch := self.machinery.release()) is not None:
            self.planned_now(batch)

    def execute_all(self, lane: Place) -> None:
        while self.machinery.next_move(lane) is not None:
            self.machinery.execute(lane)

    def check(self) -> None:
        assert self.arrived == self.failed
        retried = Counter(told.who for told in self.told if told.fate is Fate.RETRY)
        letters = Counter(told.who for told in self.told if told.fate is Fate.DEAD_LETTER)
        assert Counter(map(who, self.delivered(LETTERS))) == letters
        there: Counter[Who] = Counter()
        for records in self.faces():
            there.update(map(who, records))
        if self.face_was_deleted:
            assert there >= retried
        else:
            assert there == retried
        for records in self.faces():
            for record in records:
                self.check_record(record, Fate.RETRY)
        for record in self.delivered(LETTERS):
            self.check_record(record, Fate.DEAD_LETTER)

    def check_record(self, record: Source, fate: Fate) -> None:
        """Key, value, timestamp, others' headers as they were; the broker's as documented."""
        value, tag, attempt = this = who(record)
        assert (record.key, record.timestamp) == (b"k" + value, STAMP)
        others = own(record)
        assert others[:2] == [("h", b"1"), ("h", None)]
        assert {name for name, _ in others[2:]} <= {"tag"}
        assert [value for _, value in others[2:]][-1:] == ([tag] if tag else [])
        said = {name: only(record, name) for name, _ in record.headers if name.startswith(("pykb", "__dlq"))}
        assert said["pykbroker-group"] == GROUP.encode()
        last_ms = int(said["pykbroker-last-failure-ms"] or -1)
        candidates = [told for told in self.told if (told.who, told.fate) == (this, fate)]
        assert (said["pykbroker-policy"], last_ms) in [
            (told.policy.encode(), told.last_failure_ms) for told in candidates
        ]
        first_ms = int(said["pykbroker-first-failure-ms"] or -1)
        assert first_ms == last_ms if attempt == 1 else first_ms > 0
        assert said.get("pykbroker-reason") in (None, b"told")
        source = (said["pykbroker-source"] or b"").split(b"/")
        assert source[0] == ORIGIN.encode()
        theirs = {name: each for name, each in said.items() if name.startswith("__dlq")}
        if fate is Fate.RETRY:
            assert not theirs
            return
        letter = {
            "__dlq.errors.topic": ORIGIN.encode(),
            "__dlq.errors.group": GROUP.encode(),
            "__dlq.errors.delivery.count": b"%d" % attempt,
        }
        if len(source) == 3:
            letter |= {"__dlq.errors.partition": source[1], "__dlq.errors.offset": source[2]}
        if "pykbroker-reason" in said:
            letter["__dlq.errors.message"] = b"told"
        assert theirs == letter


def _last(record: Source, name: str) -> bytes | None:
    values = [value for each, value in record.headers if each == name]
    return values[-1] if values else None


def _identity(record: Source) -> tuple[bytes, bytes | None, None]:
    return value_of(record), _last(record, "tag"), None


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings()
