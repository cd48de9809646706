"""Exchanges and topics with a partitioner in a whole broker, as a client sees them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pykbroker import (
    Binding,
    Component,
    ExchangeType,
    PartitionContext,
    Partitioner,
    RecordUnroutable,
    RoutingContext,
    ValidationContext,
    Validator,
    hookimpl,
)
from pykbroker.catalog.ingress import FORWARD_TOPIC, ingress_name
from pykbroker.components import RecordError
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from pykbroker.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from pykbroker.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from pykbroker.protocol.messages.metadata import MetadataRequest, MetadataResponse
from pykbroker.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import Record, iter_all_records
from pykbroker.testing import BrokerThread
from tests.containment.talk import Talk

TYPE, BINDINGS = "pykbroker.exchange.type", "pykbroker.exchange.bindings"


class Sometimes:
    """A validator whose mind can be changed, and that can be broken."""

    broken = False

    def check(self, ctx: ValidationContext) -> Iterator[RecordError]:
        if Sometimes.broken:
            raise RuntimeError("broken")
        for index, record in enumerate(ctx.batch.records):
            if record.value == b"bad":
                yield RecordError(index, "bad")


class Last:
    """A partitioner."""

    def choose(self, ctx: PartitionContext) -> int:
        return ctx.partitions - 1


class Everything:
    """An exchange type, and its matcher."""

    def __init__(self, bindings: Sequence[Binding] = ()) -> None:
        self._bindings = bindings

    def validate(self, binding: Binding) -> None:
        pass

    def compile(self, bindings: Sequence[Binding]) -> Everything:
        return Everything(bindings)

    def match(self, ctx: RoutingContext) -> Sequence[Binding]:
        return self._bindings


class Plugin:
    """Brings these, and listens."""

    def __init__(self) -> None:
        self.unroutable: list[RecordUnroutable] = []

    @hookimpl
    def pykbroker_register_validators(self) -> list[Component[Validator]]:
        return [Component("sometimes", lambda build: Sometimes())]

    @hookimpl
    def pykbroker_register_partitioners(self) -> list[Component[Partitioner]]:
        return [Component("last", lambda build: Last())]

    @hookimpl
    def pykbroker_register_exchange_types(self) -> list[Component[ExchangeType]]:
        return [Component("everything", lambda build: Everything())]

    @hookimpl
    def pykbroker_record_unroutable(self, event: RecordUnroutable) -> None:
        self.unroutable.append(event)


PLUGIN = Plugin()


class House:
    """A broker, a connection, and patience."""

    def __init__(self, data_dir: Path, plugin: Plugin | None = PLUGIN, **settings: object) -> None:
        self.broker = BrokerThread(
            data_dir=data_dir,
            settings={name.replace("_", "."): value for name, value in settings.items()},
            plugins=[] if plugin is None else [plugin],
        )
        self.broker.start()
        self.talk = Talk(self.broker.bootstrap)

    def close(self) -> None:
        self.talk.close()
        self.broker.stop()

    def restart(self) -> None:
        self.talk.close()
        self.broker.restart()
        self.talk = Talk(self.broker.bootstrap)

    def exchange(self, name: str, kind: str, *bindings: dict[str, object], **more: str) -> None:
        own = {key.replace("_", "."): value for key, value in more.items()}
        assert self.talk.create(name, {TYPE: kind, BINDINGS: json.dumps(bindings), **own}) == 0

    def produce(
        self,
        topic: str,
        *records: RecordData,
        partition: int = 0,
        codec: int = 0,
        sequence: tuple[int, int] | None = None,
    ) -> PartitionProduceResponse:
        """Produce one batch; ``sequence`` is producer id and base sequence."""
        producer_id, base_sequence = sequence or (-1, -1)
        batch = encode_batch(
            records,
            timestamp_ms=1000,
            codec=codec,
            producer_id=producer_id,
            producer_epoch=0 if sequence else -1,
            base_sequence=base_sequence,
        )
        data = PartitionProduceData(index=partition, records=batch)
        request = ProduceRequest(
            acks=-1, timeout_ms=5000, topic_data=[TopicProduceData(name=topic, partition_data=[data])]
        )
        return self.talk.client.call(request, ProduceResponse, 12).responses[0].partition_responses[0]

    def read(self, topic: str, partition: int = 0) -> list[Record]:
        wanted = FetchPartition(partition=partition, fetch_offset=0, partition_max_bytes=1 << 20)
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1 << 20,
            topics=[FetchTopic(topic=topic, partitions=[wanted])],
        )
        found = self.talk.client.call(request, FetchResponse, 12).responses[0].partitions[0]
        assert found.error_code == 0
        assert isinstance(found.records, bytes | bytearray | memoryview)
        return [record for _, record in iter_all_records(found.records)]

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until ``condition``, which runs in the broker's thread."""
        deadline = time.monotonic() + 10
        while not self.broker.run(condition):
            assert time.monotonic() < deadline, "it does not come true"
            time.sleep(0.001)

    def forwarded(self) -> None:
        """Until everything is moved."""
        services = self.broker.broker.services
        forwarding = services.forwarding
        assert forwarding is not None

        def is_done() -> bool:
            return all(
                partition.needed_from is None or partition.needed_from() == partition.log_end_offset
                for partition in services.partitions
            )

        self.wait(is_done)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("forwarding"))
    yield house
    house.close()


def test_a_copy_is_its_original_but_for_the_header_that_says_where_it_comes_from(house: House) -> None:
    house.talk.create("whole")
    house.exchange("wholes", "fanout", {"to": "whole"})
    old = ("pykbroker-routed-from", b"elsewhere/1/2")
    records = [
        RecordData(b"key", b"value", 1234, [("a", b"1"), ("a", None), old, ("b", b"\xff")]),
        RecordData(None, None, 99),
        RecordData(b"", b"", 100_000, [("x", b"y" * 300)]),
    ]
    answer = house.produce("wholes", *records)
    assert (answer.error_code, answer.base_offset) == (0, 0)
    house.forwarded()
    came = [("pykbroker-routed-from", b"wholes/0/%d" % offset) for offset in range(3)]
    assert [(r.key, r.value, r.timestamp, list(r.headers)) for r in house.read("whole")] == [
        (b"key", b"value", 1234, [("a", b"1"), ("a", None), ("b", b"\xff"), came[0]]),
        (None, None, 99, [came[1]]),
        (b"", b"", 100_000, [("x", b"y" * 300), came[2]]),
    ]
    assert [r.headers for r in house.read("wholes")] == [tuple(r.headers) for r in records]


@pytest.mark.parametrize(
    ("setting", "value", "codec", "stamped"),
    [
        ("compression.type", "producer", 1, False),
        ("compression.type", "zstd", 4, False),
        ("compression.type", "uncompressed", 0, False),
        ("message.timestamp.type", "LogAppendTime", 1, True),
    ],
)
def test_a_target_has_its_own_codec_and_timestamps(
    house: House, setting: str, value: str, codec: int, stamped: bool
) -> None:
    name = f"form-{value}"
    house.talk.create(name, {setting: value})
    house.exchange(f"{name}-x", "fanout", {"to": name})
    house.produce(f"{name}-x", RecordData(b"k", b"v" * 100_000), codec=1)
    house.forwarded()
    ((header, record),) = house.talk.batches(name)
    assert (header.codec, header.log_append, record.timestamp != 1000) == (codec, stamped, stamped)


def test_a_record_is_never_too_large_for_a_target(house: House) -> None:
    house.talk.create("small", {"max.message.bytes": "100"})
    house.exchange("smalls", "fanout", {"to": "small"})
    house.produce("smalls", *[RecordData(None, b"x" * size) for size in (10, 500, 10)])
    house.forwarded()
    assert len({header.base_offset for header, _ in house.talk.batches("small")}) == 3
    assert house.talk.produce("small", b"x" * 500).error_code == ErrorCode.MESSAGE_TOO_LARGE


def test_what_goes_nowhere_is_dropped_and_counted_or_refused_at_the_door(house: House) -> None:
    house.talk.create("somewhere")
    house.exchange("drops", "direct", {"to": "somewhere", "key": "yes"})
    house.exchange(
        "refuses", "direct", {"to": "somewhere", "key": "yes"}, pykbroker_exchange_unroutable="error"
    )
    yes, no = RecordData(b"yes", b"1"), RecordData(b"no", b"2")
    assert house.produce("drops", yes, no).error_code == 0
    answer = house.produce("refuses", yes, no)
    assert (answer.error_code, answer.base_offset) == (ErrorCode.INVALID_RECORD, -1)
    (wrong,) = answer.record_errors
    assert (wrong.batch_index, "no" in (wrong.batch_index_error_message or "")) == (1, True)
    assert house.produce("refuses", yes).error_code == 0
    house.forwarded()
    assert [(r.key, r.headers[-1][1]) for r in house.read("somewhere")] == [
        (b"yes", b"drops/0/0"),
        (b"yes", b"refuses/0/0"),
    ]
    assert [(e.exchange, e.offset, e.routing_key) for e in PLUGIN.unroutable] == [
        ("refuses", -1, "no"),
        ("drops", 1, "no"),
    ] or [(e.exchange, e.offset, e.routing_key) for e in PLUGIN.unroutable] == [
        ("drops", 1, "no"),
        ("refuses", -1, "no"),
    ]
    house.talk.alter("refuses", pykbroker_exchange_unroutable="drop")
    assert house.produce("refuses", no).error_code == 0


def test_a_batch_that_was_let_in_is_a_duplicate_also_when_it_would_not_be_now(house: House) -> None:
    house.talk.create("gate")
    house.exchange("gates", "direct", {"to": "gate", "key": "k"}, pykbroker_exchange_unroutable="error")
    assert house.produce("gates", RecordData(b"k", b"1"), sequence=(5, 0)).error_code == 0
    house.talk.alter("gates", **{BINDINGS: "[]"})
    again = house.produce("gates", RecordData(b"k", b"1"), sequence=(5, 0))
    assert (again.error_code, again.base_offset) == (0, 0)


def test_records_that_a_validator_refuses_are_dead_letters(house: House) -> None:
    house.talk.create("checked", {"pykbroker.validators": "sometimes"})
    house.talk.create("letters")
    house.exchange("checks", "fanout", {"to": "checked"}, pykbroker_dead_letter_topic="letters")
    house.produce("checks", *[RecordData(None, value) for value in (b"1", b"bad", b"2", b"bad")])
    house.produce("checks", RecordData(None, b"bad"))
    house.produce("checks", RecordData(None, b"3"))
    house.forwarded()
    assert house.talk.values("checked") == [b"1", b"2", b"3"]
    assert [r.headers[-1][1] for r in house.read("letters")] == [b"checks/0/1", b"checks/0/3", b"checks/0/4"]


def test_while_a_validator_fails_copies_wait(house: House) -> None:
    house.talk.create("waits", {"pykbroker.validators": "sometimes"})
    house.talk.create("goes-on")
    house.exchange("both", "fanout", {"to": "waits"}, {"to": "goes-on"})
    Sometimes.broken = True
    try:
        house.produce("both", RecordData(None, b"1"))
        house.produce("both", RecordData(None, b"2"))
        forwarding = house.broker.broker.services.forwarding
        assert forwarding is not None
        house.wait(lambda: forwarding.statistics().waiting_moves > 0 and len(_records(house, "goes-on")) == 2)
        assert (house.talk.values("goes-on"), house.talk.values("waits")) == ([b"1", b"2"], [])
    finally:
        Sometimes.broken = False
    house.broker.advance(10, sessions=True)
    house.forwarded()
    assert house.talk.values("waits") == [b"1", b"2"]


def test_a_compacted_target_gets_no_record_without_a_key(house: House) -> None:
    house.talk.create("compacted", {"cleanup.policy": "compact"})
    house.talk.create("keyless")
    house.exchange("mixed", "fanout", {"to": "compacted"}, pykbroker_dead_letter_topic="keyless")
    house.produce("mixed", RecordData(b"k", b"1"), RecordData(None, b"2"))
    house.forwarded()
    assert (house.talk.values("compacted"), house.talk.values("keyless")) == ([b"1"], [b"2"])


def test_a_partitioner_of_the_topic_decides_where_records_arrive(house: House) -> None:
    settings = {"pykbroker.partitioner": "header", "pykbroker.plugin.header.name": "where"}
    assert house.talk.create("placed", settings, partitions=3) == 0
    places = [[] for _ in range(3)]  # type: list[list[bytes | None]]
    for number in range(30):
        record = RecordData(b"k%d" % number, b"%d" % number, headers=[("where", b"%d" % (number % 5))])
        answer = house.produce("placed", record, partition=number % 3)
        assert (answer.error_code, answer.base_offset, answer.log_start_offset) == (0, -1, -1)
    house.forwarded()
    for partition in range(3):
        found = house.read("placed", partition)
        assert all(not any(name == "pykbroker-routed-from" for name, _ in r.headers) for r in found)
        places[partition] = [r.value for r in found]
    assert sorted(int(value or b"") for values in places for value in values) == list(range(30))
    where = {int(value or b"") % 5: partition for partition, values in enumerate(places) for value in values}
    for partition, values in enumerate(places):
        assert {where[int(value or b"") % 5] for value in values} <= {partition}


def test_sequences_are_checked_where_records_come_in(house: House) -> None:
    assert house.talk.create("once", {"pykbroker.partitioner": "round-robin"}, partitions=2) == 0
    for _ in range(2):  # the second time it is a duplicate
        answer = house.produce("once", RecordData(None, b"1"), sequence=(9, 0))
        assert (answer.error_code, answer.base_offset) == (0, -1)
    ahead = house.produce("once", RecordData(None, b"3"), sequence=(9, 5))
    assert ahead.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    house.forwarded()
    assert [r.value for p in range(2) for r in house.read("once", p)] == [b"1"]


def test_an_ingress_log_is_hidden_grows_and_goes_with_its_topic(house: House) -> None:
    assert house.talk.create("face", {"pykbroker.partitioner": "round-robin", "flush.messages": "7"}) == 0
    services = house.broker.broker.services

    catalog = services.catalog
    hidden = house.broker.run(lambda: ingress_name(catalog.image.topics["face"].topic_id))

    def ingress() -> tuple[int, int] | None:
        topic = catalog.image.topics.get(hidden)
        return None if topic is None else (len(topic.partitions), catalog.topic_config(topic).flush_messages)

    assert house.broker.run(ingress) == (1, 7)
    growth = CreatePartitionsTopic(name="face", count=4, assignments=None)
    request = CreatePartitionsRequest(topics=[growth], timeout_ms=5000, validate_only=False)
    (grown,) = house.talk.client.call(request, CreatePartitionsResponse, 2).results
    assert grown.error_code == 0, grown.error_message
    house.talk.alter("face", flush_messages="3")
    assert house.broker.run(ingress) == (4, 3)
    for partition in range(4):
        assert house.produce("face", RecordData(None, b"v"), partition=partition).error_code == 0
    house.forwarded()
    assert [len(house.read("face", p)) for p in range(4)] == [1, 1, 1, 1]
    shown = house.talk.client.call(MetadataRequest(topics=None), MetadataResponse, 9).topics
    assert not [topic.name for topic in shown if (topic.name or "").startswith("__pykbroker_")]
    house.talk.delete("face")
    assert house.broker.run(ingress) is None


def test_an_exchange_that_is_deleted_leaves_nothing_in_the_log_of_plans(house: House) -> None:
    house.talk.create("stays")
    house.exchange("leaves", "fanout", {"to": "stays"})
    house.produce("leaves", RecordData(None, b"1"))
    house.forwarded()
    forwarding = house.broker.broker.services.forwarding
    assert forwarding is not None
    topic_id = house.broker.run(lambda: house.broker.broker.services.catalog.image.topics["leaves"].topic_id)
    assert house.broker.run(lambda: forwarding.passed(topic_id, 0)) == 1
    house.talk.delete("leaves")
    house.wait(lambda: forwarding.passed(topic_id, 0) == 0)


def test_what_is_moved_goes_with_its_segment_and_what_is_not_stays(tmp_path: Path) -> None:
    house = House(tmp_path, log_retention_check_interval_ms=100, log_retention_ms=-1, log_segment_bytes=1000)
    try:
        house.talk.create("queue")
        house.talk.create("broken", {"pykbroker.validators": "sometimes"})
        house.exchange("lets-go", "fanout", {"to": "queue"})
        house.exchange("keeps", "fanout", {"to": "queue"}, pykbroker_exchange_keep="true")
        house.exchange("held", "fanout", {"to": "broken"}, retention_ms="1")
        Sometimes.broken = True
        for _ in range(10):
            for name in ("lets-go", "keeps", "held"):
                assert house.produce(name, RecordData(None, b"x" * 400)).error_code == 0
        services = house.broker.broker.services

        def start(name: str) -> int:
            partition = services.partitions.opened(name, 0)
            assert partition is not None
            return partition.log_start_offset

        house.broker.advance(3600)
        house.wait(lambda: start("lets-go") >= 8)
        house.broker.advance(3600)
        assert [house.broker.run(start, name) for name in ("keeps", "held")] == [0, 0]
        request = DeleteRecordsRequest(
            topics=[
                DeleteRecordsTopic(
                    name="held", partitions=[DeleteRecordsPartition(partition_index=0, offset=5)]
                )
            ],
            timeout_ms=1000,
        )
        answer = house.talk.client.call(request, DeleteRecordsResponse, 2).topics[0].partitions[0]
        assert answer.error_code == ErrorCode.POLICY_VIOLATION
        Sometimes.broken = False
        house.broker.advance(10, sessions=True)
        house.wait(lambda: start("held") >= 8)
        assert [len(_records(house, name)) for name in ("queue", "broken")] == [20, 10]
    finally:
        Sometimes.broken = False
        house.close()


def test_a_plan_that_is_open_is_executed_after_a_restart(tmp_path: Path) -> None:
    """Also when producers have been forgotten meanwhile wherever they may be."""
    house = House(
        tmp_path,
        log_retention_ms=-1,
        producer_id_expiration_ms=1,
        producer_id_expiration_check_interval_ms=10,
    )
    try:
        house.talk.create("late", {"pykbroker.validators": "sometimes"})
        house.talk.create("early")
        house.exchange("two", "fanout", {"to": "late"}, {"to": "early"})
        Sometimes.broken = True
        for number in range(5):
            house.produce("two", RecordData(None, b"%d" % number))
        house.wait(lambda: len(_records(house, "early")) == 5)
        house.broker.advance(3600)
        house.restart()
        house.broker.advance(3600)
        Sometimes.broken = False
        house.broker.advance(10, sessions=True)
        house.forwarded()
        assert house.talk.values("late") == house.talk.values("early") == [b"0", b"1", b"2", b"3", b"4"]
        shards = house.broker.run(
            lambda: [p for p in house.broker.broker.services.partitions if p.topic == FORWARD_TOPIC]
        )
        assert shards
    finally:
        Sometimes.broken = False
        house.close()


def _records(house: House, topic: str) -> range:
    partition = house.broker.broker.services.partitions.opened(topic, 0)
    return range(0 if partition is None else partition.log_end_offset)


def test_topics_whose_plugins_are_missing_can_be_read_and_lose_nothing(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.talk.create("chosen", {"pykbroker.partitioner": "last"}, partitions=2)
    house.talk.create("to")
    house.exchange("mine", "everything", {"to": "to"})
    house.produce("chosen", RecordData(None, b"1"))
    house.produce("mine", RecordData(None, b"1"))
    house.forwarded()
    house.close()
    without = House(tmp_path, plugin=None)
    try:
        for topic in ("chosen", "mine"):
            refused = without.produce(topic, RecordData(None, b"2"))
            assert refused.error_code == ErrorCode.POLICY_VIOLATION
            assert ("last" if topic == "chosen" else "everything") in (refused.error_message or "")
        assert (without.talk.values("to"), len(without.read("chosen", 1))) == ([b"1"], 1)
    finally:
        without.close()
