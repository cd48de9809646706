"""Dead letters: which are settled, as settings; what may be ordered for them; how they go back."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pykbroker.catalog.exchange_types import ExchangeTypes
from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.topics import NewTopic, TopicAdmin
from pykbroker.config import BrokerConfig
from pykbroker.delivery import held, letters
from pykbroker.delivery.commits import CommitChecks, Meaning, meaning
from pykbroker.delivery.letters import MAX_BYTES, SETTLED, Return, decode_return, described
from pykbroker.delivery.nacks import Nack, Purge, Ranges, Replay, merged, parse
from pykbroker.delivery.topics import DeliveryTopics
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.forwarding.copying import Building, Source, sources
from pykbroker.forwarding.plan import Move, Place
from pykbroker.records.batch import read_header
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.compression import Codec
from pykbroker.records.decode import payload_of

# What is settled


def read(text: str) -> Mapping[int, Ranges]:
    """A page, read as commit metadata is."""
    found = {}
    for partition, ranges in json.loads(text).items():
        asked = parse(json.dumps({"nack": ranges}))
        assert isinstance(asked, Nack)
        found[int(partition)] = asked.ranges
    return found


def test_settled_letters_as_a_setting() -> None:
    assert described({}) == {SETTLED: "{}"}
    assert described({0: ((5, 5), (7, 9)), 3: ((0, 0),)}) == {SETTLED: '{"0":[5,[7,9]],"3":[0]}'}


@given(
    st.dictionaries(
        st.integers(0, 12),
        st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 3)), min_size=1, max_size=30),
        max_size=6,
    ),
    st.integers(60, 300),
)
def test_pages(found: dict[int, list[tuple[int, int]]], limit: int) -> None:
    settled = {
        partition: merged((first, first + more) for first, more in each) for partition, each in found.items()
    }
    settings = described(settled, limit)
    assert all(len(text) <= limit for text in settings.values())
    whole = json.loads(settings[SETTLED])
    if "pages" not in whole:
        assert read(settings[SETTLED]) == settled
        return
    together: dict[int, Ranges] = {}
    assert len(settings) == 1 + whole["pages"]
    for number in range(whole["pages"]):
        for partition, ranges in read(settings[f"{SETTLED}.{number}"]).items():
            together[partition] = merged((*together.get(partition, ()), *ranges))
    assert together == settled


def test_a_million_settled_letters_are_one_range() -> None:
    assert described({0: ((0, 10**6),)}) == {SETTLED: '{"0":[[0,1000000]]}'}
    sparse = described({0: tuple((each, each) for each in range(0, 40_000, 2))})
    assert json.loads(sparse[SETTLED]) == {"pages": len(sparse) - 1}
    assert max(map(len, sparse.values())) <= MAX_BYTES


# What may be ordered


class Fanout(ExchangeTypes):
    """One exchange type, of which nothing is asked."""

    def names(self) -> frozenset[str]:
        return frozenset({"fanout"})

    def check(self, *args: object) -> None:
        """Every binding will do."""


class World:
    """Topics, and who checks commits."""

    def __init__(self) -> None:
        self.catalog = MemoryCatalog(BrokerConfig.load())
        self.admin = TopicAdmin(self.catalog)
        self.catalog.exchange_rules.types = Fanout()
        self.topics = DeliveryTopics(self.catalog, self.admin, self._groups)
        self.checks = CommitChecks(self.catalog, self.topics)

    async def _groups(self) -> list[str]:
        return []

    async def create(self, name: str, **overrides: str) -> None:
        new = NewTopic(
            name=name,
            partitions=2,
            overrides=[(f"pykbroker.{key.replace('_', '.')}", value) for key, value in overrides.items()],
        )
        (result,) = await self.admin.create([new])
        if isinstance(result, KafkaError):
            raise result

    async def made(self) -> World:
        await self.create("orders", retry_policy="fixed")
        await self.topics.ensure("orders", "billing")
        await self.create("plain")
        await self.create("elsewhere", exchange_type="fanout", exchange_bindings='[{"to": "plain"}]')
        await self.create("loop", exchange_type="fanout", exchange_bindings='[{"to": "orders.billing.dlq"}]')
        await self.create("in", exchange_type="fanout", exchange_bindings='[{"to": "orders.billing.retry"}]')
        await self.create("far", exchange_type="fanout", exchange_bindings='[{"to": "loop"}]')
        return self

    async def check(self, group: str, topic: str, offset: int, metadata: object) -> ErrorCode:
        text = metadata if isinstance(metadata, str) else json.dumps(metadata)
        found = self.catalog.image.topics[topic]
        return await self.checks.check(group, found, 0, offset, text)


LETTERS, RETRY = "orders.billing.dlq", "orders.billing.retry"


@pytest.mark.parametrize(
    ("topic", "asked", "why"),
    [
        (LETTERS, {"replay": [1]}, None),
        (LETTERS, {"purge": [1]}, None),
        (LETTERS, {"replay": [1], "to": "orders", "rate": 5}, None),
        (LETTERS, {"replay": [1], "to": "plain"}, None),
        (LETTERS, {"replay": [1], "to": "elsewhere"}, None),
        ("plain", {"replay": [1], "to": "orders"}, None),
        ("plain", {"replay": [1]}, None),
        (LETTERS, {"replay": [1], "to": LETTERS}, "is where the letters are"),
        ("plain", {"replay": [1], "to": "plain"}, "is where the letters are"),
        (LETTERS, {"replay": [1], "to": RETRY}, "is the retry topic of a group"),
        ("plain", {"replay": [1], "to": LETTERS}, "is the dlq topic of a group"),
        (LETTERS, {"replay": [1], "to": "nowhere"}, "there is no topic nowhere"),
        (LETTERS, {"replay": [1], "to": "loop"}, "the exchange loop routes into orders.billing.dlq"),
        (LETTERS, {"replay": [1], "to": "far"}, "the exchange far routes into"),
        (
            LETTERS,
            {"replay": [1], "to": "in"},
            "routes into orders.billing.retry, the retry topic of a group",
        ),
        (RETRY, {"replay": [1]}, "is not a topic of dead letters"),
        (RETRY, {"purge": [1]}, "is not a topic of dead letters"),
        ("elsewhere", {"purge": [1]}, "is not a topic of dead letters"),
        (LETTERS, {"replay": [1], "rate": 0}, "'rate' must be more than 0"),
        (LETTERS, {"replay": 1}, "must be a list"),
    ],
)
async def test_orders(topic: str, asked: object, why: str | None, caplog: pytest.LogCaptureFixture) -> None:
    world = await World().made()
    code = await world.check("pykbroker.dlq", topic, 0, asked)
    if why is None:
        assert (code, caplog.messages) == (ErrorCode.NONE, [])
        return
    assert code == ErrorCode.INVALID_REQUEST
    (line,) = caplog.messages
    assert why in line
    assert f"group=pykbroker.dlq partition={topic}-0" in line


async def test_a_replay_needs_the_origin() -> None:
    world = await World().made()
    await world.admin.delete(["orders"])
    assert await world.check("pykbroker.dlq", LETTERS, 0, {"replay": [1]}) == ErrorCode.INVALID_REQUEST
    assert await world.check("pykbroker.dlq", LETTERS, 0, {"replay": [1], "to": "plain"}) == ErrorCode.NONE
    assert await world.check("pykbroker.dlq", LETTERS, 0, "some text") == ErrorCode.NONE


# What may be nacked


@pytest.mark.parametrize(
    ("group", "topic", "what"),
    [
        ("billing", "orders", Meaning.FAILURES),
        ("audit", "orders", Meaning.FAILURES),
        ("billing", RETRY, Meaning.FAILURES),
        ("audit", RETRY, Meaning.MISTAKES),
        ("billing", LETTERS, Meaning.MISTAKES),
        ("billing", "elsewhere", Meaning.MISTAKES),
        ("billing", "plain", Meaning.NOTHING),
    ],
)
async def test_what_a_nack_means(group: str, topic: str, what: Meaning) -> None:
    world = await World().made()
    assert meaning(world.catalog, world.catalog.image.topics[topic], group) is what
    refused = ErrorCode.INVALID_REQUEST if what is Meaning.FAILURES else ErrorCode.NONE
    assert await world.check(group, topic, 5, {"nack": [[3, 5]]}) == refused
    assert await world.check(group, topic, 6, {"nack": [[3, 5]]}) == ErrorCode.NONE
    assert await world.check(group, topic, 5, {"nack": 7}) == ErrorCode.NONE
    assert await world.check(group, topic, 5, {"replay": [7]}) == ErrorCode.NONE


async def test_a_nack_makes_what_it_needs_or_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    world = await World().made()
    assert await world.check("audit", "orders", 6, {"nack": [5]}) == ErrorCode.NONE
    assert "orders.audit.retry" in world.catalog.image.topics
    assert await world.check("a" * 245, "orders", 6, {"nack": [5]}) == ErrorCode.INVALID_REQUEST
    (line,) = caplog.messages
    assert "pykbroker.retry.topic" in line, "the setting that would help"
    assert await world.check("a" * 245, "orders", 6, {"nack": []}) == ErrorCode.NONE


async def test_nothing_is_asked_where_no_policy_is_set() -> None:
    world = World()
    await world.create("orders")
    assert await world.check("billing", "orders", 5, {"nack": [9]}) == ErrorCode.NONE


# Going back


def letter(headers: list[tuple[str, bytes | None]], offset: int = 7) -> Source:
    batch = encode_batch(
        [RecordData(b"key", b"value", headers=tuple(headers))], timestamp_ms=5, base_offset=offset
    )
    return next(sources(read_header(batch), bytes(payload_of(batch)), keep_provenance=True))


def test_a_letter_goes_back_as_it_was_produced() -> None:
    back = Return("orders", 3, 1000, 2.5)
    assert decode_return(back.encode()) == back
    written: list[tuple[str, bytes | None]] = [
        ("trace", b"1"),
        ("pykbroker-source", b"orders/1/17"),
        ("pykbroker-group", b"billing"),
        ("pykbroker-attempt", b"6"),
        ("__dlq.errors.topic", b"orders"),
        ("trace", None),
    ]
    building = Building(Codec.NONE)
    building.add(5, letters.replayed_suffix(back, 3, letter(written)))
    batch = building.finish(producer_id=-1, epoch=-1, base_sequence=-1, append_time_ms=None, level=None)
    (found,) = sources(read_header(batch), bytes(payload_of(batch)), keep_provenance=True)
    assert (found.key, found.body, found.timestamp) == (b"key", letter([]).body, 5)
    decided = held.decision(found)
    assert (decided.due_ms, decided.kind, decided.partition, decided.name) == (
        1007, held.Kind.REPLAY, 1, "orders",
    )  # fmt: skip
    assert found.headers[1:] == (("trace", b"1"), ("trace", None))


@pytest.mark.parametrize(
    ("to", "said", "where"),
    [
        ("plain", b"orders/1/17", ("plain", 1)),
        ("plain", None, ("plain", 3)),
        (None, b"orders/1/17", ("orders", 1)),
        (None, b"orders", ("orders", 3)),
        (None, b"a/b/c", ("", 3)),
        (None, None, ("", 3)),
    ],
)
def test_where_a_letter_goes(to: str | None, said: bytes | None, where: tuple[str, int]) -> None:
    headers: list[tuple[str, bytes | None]] = [] if said is None else [("pykbroker-source", said)]
    assert letters.destination(Return(to, 3, 0, 0.0), letter(headers)) == where


def test_purges_are_of_any_topic_of_letters() -> None:
    async def check() -> None:
        world = await World().made()
        topic = world.catalog.image.topics[LETTERS]
        assert letters.why_not(world.catalog, topic, Purge(((0, 5),))) is None
        assert letters.why_not(world.catalog, topic, Replay(((0, 5),))) is None

    trio.run(check)


def test_a_note_of_a_nack_is_no_return() -> None:
    assert decode_return(b'[false,"orders",0,"billing",""]') is None
    move = Move(target=Place(b"x" * 16, 0), offsets=(1,), since=0, base_sequence=0, note=b"[]")
    assert decode_return(move.note) is None
