"""What arrives is held, once, and the held log's tail says how far that has come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from pykbroker.delivery.arriving import (
    MAX_DELAY_MS,
    ArrivingLane,
    Decide,
    Decided,
    DelayDecider,
    delay_of,
    tail,
)
from pykbroker.delivery.held import Held, Kind, batches, decision, suffix
from pykbroker.errors import KafkaError
from pykbroker.forwarding.copying import Source
from pykbroker.forwarding.reading import SourceReader
from pykbroker.log.errors import StorageError
from pykbroker.partitions.partition import Partition
from pykbroker.records.build import RecordData, encode_batch
from tests.delivery.flow_world import settled
from tests.partitions.conftest import bench
from tests.partitions.kit import Bench

__all__ = ["bench"]

LIMIT = 1 << 20


class Counting:
    """Discards what begins with a minus; counts how often it is asked, and tells."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.told: list[int] = []

    def begin(self, now_ms: int) -> Decide:
        def decide(record: Source) -> Decided:
            self.asked.append(record.offset)
            kind = Kind.NOTHING if record.key == b"-" else Kind.NAMED
            return Decided(
                record, Held(now_ms + 5, kind, 0, "letters"), lambda: self.told.append(record.offset)
            )

        return decide


class Home:
    """Two logs, which outlive their lane."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.delayed, self.held = bench.topic("delayed"), bench.topic("held")
        self.decider = Counting()

    def arrive(self, *keys: bytes) -> None:
        records = [RecordData(key, b"v") for key in keys]
        now_ms = self.bench.clock.time_ms()
        self.delayed.append_as_leader(bytearray(encode_batch(records, timestamp_ms=7)), now_ms=now_ms)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ArrivingLane]:
        lane = ArrivingLane(self.delayed, self.held, self.decider, self.bench.clock, LIMIT)
        self.delayed.watch(lane.wake)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lane.run)
            await settled()
            yield lane
            nursery.cancel_scope.cancel()
        self.delayed.unwatch(lane.wake)

    async def holds(self) -> list[Held]:
        found = await SourceReader(self.held, LIMIT).pick(range(self.held.log_end_offset))
        return [decision(record) for record in found.values()]


@pytest.fixture
def home(bench: Bench) -> Home:
    return Home(bench)


async def test_what_arrives_is_held_with_where_it_was(home: Home) -> None:
    async with home.running() as lane:
        assert lane.is_idle
        home.arrive(b"a", b"b")
        home.arrive(b"c")
        await settled()
        assert lane.is_idle
        assert lane.arrived == 3
    assert [(each.ingress_offset, each.ingress_epoch, each.name) for each in await home.holds()] == [
        (0, 0, "letters"),
        (1, 0, "letters"),
        (2, 0, "letters"),
    ]
    assert home.decider.told == [0, 1, 2]


async def test_a_restart_goes_on_where_it_was(home: Home) -> None:
    home.arrive(b"a", b"b")
    async with home.running():
        pass
    home.arrive(b"c")
    async with home.running() as lane:
        assert lane.position == 3
        assert lane.last_batch == 2
    assert home.decider.asked == [0, 1, 2]
    assert [each.ingress_offset for each in await home.holds()] == [0, 1, 2]


async def test_what_is_discarded_is_not_asked_about_again(home: Home) -> None:
    home.arrive(b"-", b"a", b"-", b"-")
    async with home.running():
        pass
    home.arrive(b"-")
    async with home.running():
        pass
    async with home.running() as lane:
        assert lane.position == 5
    assert home.decider.asked == [0, 1, 2, 3, 4]
    assert [each.kind for each in await home.holds()] == [Kind.NAMED, Kind.NOTHING, Kind.NOTHING]


async def test_a_held_log_that_lost_its_end_gets_it_again(home: Home) -> None:
    home.arrive(b"a", b"b", b"c")
    async with home.running():
        pass
    home.held.truncate_to(0)
    home.held.lead(1)
    async with home.running() as lane:
        assert lane.position == 3
    assert [each.ingress_offset for each in await home.holds()] == [0, 1, 2]


async def test_what_comes_in_place_of_lost_records_is_decided_about(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    for key in (b"a", b"b", b"c"):
        home.arrive(key)
    async with home.running():
        pass
    home.delayed.truncate_to(1)
    home.delayed.lead(1)
    home.arrive(b"d")
    async with home.running() as lane:
        assert lane.position == 2
    holds = await home.holds()
    assert [(each.ingress_offset, each.ingress_epoch) for each in holds] == [(0, 0), (1, 0), (2, 0), (1, 1)]
    assert "lost records that are held already: offsets=1-2" in caplog.text


async def test_a_full_disk_makes_records_wait_and_nobody_is_asked_twice(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with home.running() as lane:
        with monkeypatch.context() as patch:

            def refuse(*_: object, **__: object) -> None:
                raise StorageError("full")

            patch.setattr(home.held, "append_as_leader", refuse)
            home.arrive(b"a")
            await settled()
            assert not lane.is_idle
            assert "records that arrived wait" in caplog.text
        home.bench.clock.advance(2, sessions=True)
        await settled()
        assert lane.is_idle
    assert home.decider.asked == [0]
    assert home.decider.told == [0]


def damaged(partition: Partition) -> None:
    """Break the last byte of a log."""
    (path,) = partition.log.directory.glob("*.log")
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)


async def test_a_damaged_end_is_passed_over(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.arrive(b"a")
    async with home.running():
        pass
    home.arrive(b"b")
    async with home.running():
        pass
    damaged(home.held)
    found, last_batch = tail(home.held, LIMIT)
    assert found is not None
    assert (found.ingress_offset, last_batch) == (0, 0)
    assert "is damaged" in caplog.text
    async with home.running():
        pass
    assert home.decider.asked == [0, 1, 1], "rather twice than not"


async def test_an_empty_log_says_nothing(home: Home) -> None:
    assert tail(home.held, LIMIT) == (None, 0)


async def test_records_of_others_are_no_position(home: Home) -> None:
    home.held.append_as_leader(
        bytearray(encode_batch([RecordData(b"k", b"v")], timestamp_ms=7)), now_ms=0, internal=True
    )
    assert tail(home.held, LIMIT) == (None, 0)


@pytest.mark.parametrize(
    ("value", "delay"),
    [
        (b"0", 0),
        (b"1500", 1500),
        (b"0007", 7),
        (b"9" * 19, MAX_DELAY_MS),
        (b"9" * 400, MAX_DELAY_MS),
        *((each, 77) for each in (None, b"", b"-1", b"1.5", b" 1", b"soon", "²".encode(), b"1\n")),
    ],
)
def test_delays_that_headers_say(value: bytes | None, delay: int) -> None:
    assert delay_of(value, 77) == delay


async def test_the_last_header_counts(home: Home) -> None:
    headers = (("pykbroker-delay-ms", b"5"), ("pykbroker-delay-ms", b"9"))
    batch = encode_batch([RecordData(b"k", b"v", headers=headers)], timestamp_ms=7)
    home.delayed.append_as_leader(bytearray(batch), now_ms=0)
    (record,) = (await SourceReader(home.delayed, LIMIT).pick([0])).values()
    assert DelayDecider(3, lambda: 77).begin(1000)(record).held == Held(1009, Kind.FACE, 3)
    buffer, _ = batches([(7, suffix(record, Held(1009, Kind.FACE, 3)))])
    assert buffer


async def test_a_log_that_cannot_be_read_is_tried_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise KafkaError(56, "input/output error")  # type: ignore[arg-type]  # a number is enough

    home.arrive(b"a")
    with monkeypatch.context() as patch:
        patch.setattr(home.delayed.log, "read", refuse)
        async with home.running() as lane:
            assert lane.position == 0
            patch.undo()
            home.bench.clock.advance(2, sessions=True)
            await settled()
            assert lane.position == 1
