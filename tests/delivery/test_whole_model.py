"""Failures of two groups on one topic, on a broker that dies at any append: each counts once, and is read
where and when the documentation says, in order, with the headers that it says."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast
from unittest import mock

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from pykbroker.catalog.ingress import FORWARD_TOPIC
from pykbroker.catalog.retrying import DLQ_GROUP, HELD_PREFIX
from pykbroker.delivery import (
    arriving,
    commit_queue,
    counted,
    draft,
    held,
    indexing,
    letter_steps,
    releasing,
    schedule,
    selecting,
)
from pykbroker.delivery.index import MemoryIndex
from pykbroker.errors import ErrorCode
from pykbroker.forwarding import moving
from pykbroker.records.build import RecordData
from tests.delivery.flow_world import settled
from tests.delivery.whole_model import Model, Policy, Seen, Where, retry_topic, seen
from tests.delivery.whole_world import (
    ELSEWHERE,
    GROUPS,
    ORIGIN,
    PARTITIONS,
    Crash,
    Cut,
    Trap,
    WholeLife,
    WholeWorld,
)
from tests.scale import FULL, scaled

HOUR_MS = 3_600_000
Identity = tuple[str, bytes | None, int]
MAX_SET_BACK = 5
"""With more eras, records may wait for each other."""

GROUP = st.sampled_from(GROUPS)
PARTITION = st.integers(0, PARTITIONS - 1)
SHARE = st.sampled_from([1.0, 1.0, 1.0, 0.7, 0.4, 0.0])
NUMBER = st.integers(0, 1000)
MOSTLY = st.sampled_from([True, True, False])
REASON = st.sampled_from([None, "no such customer", "Grüße"])
USUAL = st.builds(
    Policy,
    st.sampled_from(["fixed", "linear", "immediate"]),
    st.sampled_from([1, 2, 0, 3]),
    st.sampled_from([500, 50, 5_000]),
    st.sampled_from([5_000, 60_000]),
)
ODD = st.builds(Policy, st.sampled_from(["none", "fixed"]), st.just(0), st.just(0), st.just(60))
POLICY = st.one_of(USUAL, USUAL, ODD)
RANGES = st.lists(st.tuples(NUMBER, st.sampled_from([0, 0, 1, 3])), min_size=1, max_size=3)
CRASH = st.one_of(st.none(), st.none(), st.tuples(st.integers(0, 8), st.booleans()))
FAIL = st.tuples(st.just("fail"), GROUP, st.booleans(), PARTITION, NUMBER, st.booleans(), REASON)
COMMIT = st.tuples(st.just("commit"), GROUP, st.booleans(), PARTITION, SHARE, RANGES, REASON)
ALL = st.tuples(st.just("all"), GROUP, st.booleans())
ADVANCE = st.tuples(st.just("advance"), st.sampled_from([501, 6_000, 60, 499, 1, 11_000, HOUR_MS]))
LETTERS = st.tuples(
    st.just("letters"), GROUP, PARTITION, MOSTLY, RANGES, st.booleans(), st.sampled_from([None, 2, 10])
)
RARE = st.one_of(
    st.tuples(st.just("policy"), st.one_of(st.none(), GROUP), st.one_of(st.none(), POLICY)),
    st.tuples(st.just("set back"), st.sampled_from([400, 4_000, 60_000])),
    st.tuples(st.just("delete"), GROUP, st.booleans()),
    st.tuples(st.just("delete records"), PARTITION, SHARE),
    st.tuples(st.just("restart"), st.booleans()),
    st.tuples(st.just("tidy")),
    st.tuples(st.just("produce"), PARTITION, st.integers(1, 3)),
    st.tuples(st.just("again")),
)
KINDS = (
    FAIL,
    FAIL,
    COMMIT,
    COMMIT,
    COMMIT,
    ALL,
    ALL,
    ADVANCE,
    ADVANCE,
    ADVANCE,
    LETTERS,
    LETTERS,
    RARE,
    RARE,
)
OPERATION = st.sampled_from(range(len(KINDS))).flatmap(KINDS.__getitem__)
STEP = st.tuples(OPERATION, CRASH)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Limits that a short history reaches."""
    with ExitStack() as stack:
        for module, limits in (
            (arriving, {"STEP_RECORDS": 3}),
            (held, {"BATCH_RECORDS": 2}),
            (releasing, {"STEP_RECORDS": 3, "LOOK_RECORDS": 2}),
            (schedule, {"KEPT": 2}),
            (indexing, {"READ_BYTES": 300}),
            (draft, {"PLAN_RECORDS": 3, "PLAN_SKIPPED": 3}),
            (letter_steps, {"PLAN_RECORDS": 4, "PURGED": 3}),
            (selecting, {"LONG": 3, "NEAR": 2, "PICKED": 2, "MAX_SKIPPED": 2}),
            (commit_queue, {"MAX_QUEUED": 3, "READ_BYTES": 300}),
            (counted, {"CHUNK": 8, "_FULL": 0xFF}),
            (moving, {"PIECE": 2}),
        ):
            for name, limit in limits.items():
                stack.enter_context(mock.patch.object(module, name, limit))
        yield


@settings(max_examples=scaled(20, 600), derandomize=not FULL)
@given(
    st.booleans(),
    st.sampled_from([False, False, True]),
    USUAL,
    st.lists(STEP, min_size=20, max_size=40),
    st.sampled_from([None, None, 0.0, 0.5, 1.0]),
)
def test_each_failure_is_read_where_and_when_it_must_be(
    shared: bool,
    is_set_back: bool,
    policy: Policy,
    todo: list[tuple[tuple[object, ...], tuple[int, bool] | None]],
    cut: float | None,
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trio.run(Whole(Path(directory), shared, is_set_back, policy).run, todo, cut)


class Whole:
    """The broker, its clients, and what must be read."""

    def __init__(self, path: Path, shared: bool, is_set_back: bool, policy: Policy) -> None:
        sets = ("offsets.topic.num.partitions=1", "pykbroker.forward.num.partitions=1")
        self.world = WholeWorld(path, *sets)
        self.model = Model(shared, policy)
        self.trap = Trap()
        self.values = 0
        self.back, self.max_back = 0, MAX_SET_BACK if is_set_back else 0
        self.last_commit: tuple[str, Where, int, list[int], str | None] | None = None
        self.life: WholeLife

    @property
    def now_ms(self) -> int:
        return self.world.clock.time_ms()

    async def run(
        self, steps: list[tuple[tuple[object, ...], tuple[int, bool] | None]], cut: float | None
    ) -> None:
        await self.world.begin(shared=self.model.shared)
        await self.world.set_policy(self.model.topic_policy.values)
        first: list[tuple[object, ...]] = [("produce", 0, 3), ("produce", 1, 3), ("all", GROUPS[0], False)]
        todo = deque([*((each, None) for each in first), *steps])
        with self.trap.spanned():
            while todo:
                try:
                    async with self.world.living() as life:
                        self.life = life
                        await self.check()
                        while todo:
                            operation, crash = todo.popleft()
                            if not await self.does(operation, crash):
                                break
                except* Crash:
                    pass
                self.trap.set(None)
            cuts = await self.ends(cut)
            if cuts is not None:
                await self.world.cut(cuts)
                await self.goes_on_after_a_cut()

    # -- what is done

    async def does(self, operation: tuple[object, ...], crash: tuple[int, bool] | None) -> bool:
        """One operation, and all that follows from it; False: the broker ends after it."""
        goes_on = await self.apply(operation)
        if crash is not None:
            self.trap.set(crash[0], after=crash[1])
        await self.check()
        self.trap.set(None)
        return goes_on

    async def apply(self, operation: tuple[object, ...]) -> bool:
        match operation:
            case "produce", int(partition), int(count):
                for _ in range(count):
                    self.produce(partition)
            case "fail", str(group), bool(returned), int(partition), int(number), bool(crossed), reason:
                await self.fail(group, returned, partition, number, crossed, cast("str | None", reason))
            case "commit", str(group), bool(returned), int(partition), float(share), list(ranges), reason:
                # Now and then that of the other group: what is nacked there means nothing.
                face = retry_topic(group if ranges[0][0] % 5 else GROUPS[0])
                where = (face if returned else ORIGIN, partition)
                offset = round(share * len(self.model.logs[where]))
                nacked = [
                    first % offset + each for first, more in ranges for each in range(more + 1) if offset
                ]
                await self.commit(group, where, offset, nacked, cast("str | None", reason))
            case "all", str(group), bool(returned):
                for partition in range(PARTITIONS):
                    await self.check()  # or letters of both come to one topic in any order
                    await self.all_fail(group, (retry_topic(group) if returned else ORIGIN, partition))
            case ("again",) if self.last_commit is not None:
                await self.commit(*self.last_commit)
            case "letters", str(group), int(partition), bool(replays), list(ranges), bool(elsewhere), rate:
                # Whether a pace outlasts a set-back of the clock depends on whether letters wait for it.
                pace = None if self.max_back else cast("int | None", rate)
                await self.order(group, partition, replays, ranges, elsewhere, pace)
            case "policy", group, policy:
                await self.alter(cast("str | None", group), cast("Policy | None", policy))
            case "advance", int(ms):
                self.world.clock.advance(ms / 1000)
            case "set back", int(ms) if self.back < self.max_back:
                self.back += 1
                self.model.is_ordered = False
                self.world.clock.now_ms -= ms
            case "delete", str(group), bool(letters):
                await self.delete(self.model.letters_topic(group) if letters else retry_topic(group))
            case "delete records", int(partition), float(share):
                start = round(share * len(self.model.logs[ORIGIN, partition]))
                if start > self.model.starts[ORIGIN, partition]:
                    self.life.partitions.get(ORIGIN, partition).delete_records_before(start)
                    self.model.starts[ORIGIN, partition] = start
            case "restart", bool(index_is_lost):
                if index_is_lost:
                    self.world.index = MemoryIndex()
                return False
            case ("tidy",):
                await self.life.flows.tidy()
                await self.life.flows.rest()
        return True

    def is_there(self, topic: str) -> bool:
        return topic in self.world.catalog.image.topics

    def produce(self, partition: int) -> None:
        self.values += 1
        number = self.values
        key = None if number % 5 == 0 else b"k%d" % (number % 3)
        own = (("h", b"1"), ("h", None))
        said = (("pykbroker-attempt", b"77"),) if number % 4 == 0 else ()
        record = Seen(key, b"v%d" % number, self.now_ms, own, said)
        self.put(ORIGIN, partition, record)
        self.model.logs[ORIGIN, partition].append(record)

    def put(self, topic: str, partition: int, record: Seen, *more: tuple[str, bytes]) -> None:
        headers = [*record.own, *record.said, *more]
        self.life.put(topic, partition, RecordData(record.key, record.value, record.timestamp, headers))

    async def fail(
        self, group: str, returned: bool, partition: int, number: int, crossed: bool, reason: str | None
    ) -> None:
        """By producing; ``crossed``: to another partition, or what another group's retry topic had."""
        source = group if number % 7 else GROUPS[0]
        records = self.model.logs[retry_topic(source) if returned else ORIGIN, partition]
        if self.model.policy(group).name != "none":
            await self.life.topics.ensure(ORIGIN, group)
        if not records or not self.is_there(retry_topic(group)):
            return
        record = records[number % len(records)]
        to = (partition + crossed) % PARTITIONS
        more = [] if reason is None else [("pykbroker-reason", reason.encode())]
        self.put(retry_topic(group), to, record, *more)
        self.model.produced(group, to, record, reason, self.now_ms)

    async def commit(
        self, group: str, where: Where, offset: int, nacked: list[int], reason: str | None
    ) -> None:
        """Forwards, again, or back; what is nacked too high is refused."""
        topic, partition = where
        if not self.is_there(topic):
            return
        asked: dict[str, object] = {"nack": nacked}
        if reason is not None:
            asked["reason"] = reason
        metadata = json.dumps(asked) if nacked else "nothing"
        refused = await self.life.commit(group, topic, partition, offset, metadata)
        beyond = self.model.interprets(group, topic) and any(each >= offset for each in nacked)
        assert refused == (ErrorCode.INVALID_REQUEST if beyond else ErrorCode.NONE)
        if not beyond:
            self.model.committed(group, where, offset, nacked, reason, self.now_ms)
            self.last_commit = group, where, offset, nacked, reason

    async def all_fail(self, group: str, where: Where) -> None:
        end = len(self.model.logs[where])
        await self.commit(group, where, end, list(range(end)), None)

    async def order(
        self,
        group: str,
        partition: int,
        replays: bool,
        ranges: list[tuple[int, int]],
        elsewhere: bool,
        rate: int | None,
    ) -> None:
        topics = [self.model.letters_topic(each) for each in (group, *GROUPS)]
        numbers = [(partition + each) % self.model.letters_partitions for each in range(PARTITIONS)]
        where = next(((each, n) for each in topics for n in numbers if self.model.logs[each, n]), None)
        if where is None:
            return
        end = len(self.model.logs[where])
        offsets = {first % end + each for first, more in ranges for each in range(more + 1)}
        asked: dict[str, object] = {"purge": sorted(offsets)}
        if replays:
            asked = {"replay": sorted(offsets), "to": ELSEWHERE if elsewhere else None, "rate": rate}
        refused = await self.life.commit(DLQ_GROUP, *where, 0, json.dumps(asked))
        assert refused == ErrorCode.NONE
        if replays:
            to = ELSEWHERE if elsewhere else None
            self.model.replayed(where, offsets, to, rate, self.now_ms)
        else:
            self.model.purged(where, offsets)

    async def alter(self, group: str | None, policy: Policy | None) -> None:
        if group is not None:
            await self.world.set_group_policy(group, {} if policy is None else policy.values)
        elif policy is not None:
            await self.world.set_policy(policy.values)
        else:
            return
        self.model.altered(group, policy)

    async def delete(self, topic: str) -> None:
        if self.is_there(topic):
            await self.world.delete(topic)
            self.model.deleted(topic)

    # -- what must hold

    async def check(self) -> None:
        await settled()
        for where in self.model.places():
            start, found = self.read(where)
            self.model.read(where, start, found, self.now_ms)

    def read(self, where: Where) -> tuple[int, list[Seen]]:
        topic, number = where
        if not self.is_there(topic):
            return 0, []
        if number >= len(self.world.catalog.image.topics[topic].partitions):
            return 0, []
        start = self.life.partitions.get(topic, number).log_start_offset
        return start, [seen(record) for record in self.life.records(topic, number)]

    async def ends(self, cut: float | None) -> list[Cut] | None:
        """All that waits comes; or the power goes before that."""
        async with self.world.living() as life:
            self.life = life
            await self.check()
            if cut is not None:
                return self.cuts(cut)
            await self.waits_no_more()
            for topic in filter(self.is_there, {self.model.letters_topic(group) for group in GROUPS}):
                found = await life.following.inquiries.settled(self.world.catalog.image.topics[topic])
                for number in range(PARTITIONS):
                    offsets = {
                        each for first, last in found.get(number, ()) for each in range(first, last + 1)
                    }
                    assert offsets == self.model.counted["dlq", (topic, number)]
        return None

    async def waits_no_more(self) -> None:
        self.world.clock.now_ms = max(self.now_ms, self.model.last_due_ms + 1000)
        self.world.clock.advance(0)
        await self.check()
        assert not any(self.model.waiting.values())

    def cuts(self, share: float) -> list[Cut]:
        """Of the logs of plans and of what is held, the end."""
        found: list[Cut] = []
        for partition in self.life.partitions:
            if partition.topic == FORWARD_TOPIC or partition.topic.startswith(HELD_PREFIX):
                found.append(self.life.tail(partition.topic, partition.index, share))
        return found

    async def goes_on_after_a_cut(self) -> None:
        """Nothing of what failed before is lost, nor of what fails then; it may come twice."""
        async with self.world.living() as life:
            self.life = life
            await settled()
            await self.world.set_policy(Policy("fixed", 2, 500, 5_000).values)
            for partition in range(PARTITIONS):
                self.produce(partition)
            must = Counter(self.expected())
            for group in GROUPS:
                await self.world.set_group_policy(group, {})
                for partition in range(PARTITIONS):
                    for name in (ORIGIN, retry_topic(group)):
                        must += Counter(await self.all_fail_anew(group, (name, partition)))
            for _ in range(2):
                await life.advance(HOUR_MS)
            places = self.model.places()
            there = Counter(identity(where, each) for where in places for each in self.read(where)[1])
            missing = at_most_once(must) - at_most_once(there)
            assert not missing

    def expected(self) -> Iterator[Identity]:
        """All that has failed, by group, value and count, and all that goes back."""
        for where, records in self.model.logs.items():
            yield from (identity(where, record) for record in records[self.model.starts[where] :])
        for where, waiting in self.model.waiting.items():
            yield from (identity(where, each.record) for each in waiting)

    async def all_fail_anew(self, group: str, where: Where) -> list[Identity]:
        """What must come of that; what has failed before may have been forgotten, or not."""
        if not self.is_there(where[0]):
            return []
        start, records = self.read(where)
        end = start + len(records)
        metadata = json.dumps({"nack": [[0, end - 1]]}) if end else ""
        assert await self.life.commit(group, *where, end, metadata) == ErrorCode.NONE
        await settled()
        before = [0 if where[0] == ORIGIN else int(each.says("attempt") or 0) for each in records]
        return [
            (group, record.value, attempt + 1)
            for offset, (record, attempt) in enumerate(zip(records, before, strict=True), start)
            if offset not in self.model.counted[group, where]
        ]


def at_most_once(found: Counter[Identity]) -> Counter[Identity]:
    """Failures once, other records as often as they are there."""
    return Counter({each: 1 if each[0] in GROUPS else count for each, count in found.items()})


def identity(where: Where, record: Seen) -> Identity:
    """Of a failure: its group, the record, its number; of another record: where it is."""
    group = record.says("group")
    if group is None or where[0] in (ORIGIN, ELSEWHERE):
        return where[0], record.value, 0
    return group.decode(), record.value, int(record.says("attempt") or 0)
