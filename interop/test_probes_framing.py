"""Probes: frames, headers, version negotiation, order of answers."""

import struct
import time
from collections.abc import Callable

import pytest

from interop.conftest import Broker
from interop.probing import create_topic, fetch_request, produce, produce_request, unique
from interop.raw import Connection

PRODUCE, FETCH, API_VERSIONS = 0, 1, 18
NO_OPERATIONS_ASKED = -(2**31)


def is_usable(connection: Connection) -> bool:
    """Whether the connection still answers."""
    return bool(connection.ask("api_versions", 0).error_code == 0)


def test_api_versions_above_the_maximum_gets_a_v0_answer(connection: Connection) -> None:
    """35 with one row, that of ApiVersions itself, in the encoding of version 0; the connection stays
    open."""
    correlation = connection.send(API_VERSIONS, 99, b"\x02a\x02b\x00", flexible=True)
    body = connection.receive(correlation, tagged_header=False)
    error, rows, key, lowest, highest = struct.unpack(">hihhh", body)
    assert (error, rows, key, lowest) == (35, 1, 18, 0)
    assert highest >= 3
    assert is_usable(connection)


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4])
def test_api_versions_in_every_version(connection: Connection, version: int) -> None:
    """Each version lists the APIs that a classic client needs, each once, with a range that is not empty."""
    name = {"client_software_name": "probe", "client_software_version": "1.0"} if version >= 3 else {}
    answer = connection.ask("api_versions", version, **name)
    assert answer.error_code == 0
    ranges = {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}
    assert len(ranges) == len(answer.api_keys)
    assert {0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18} <= set(ranges)
    assert all(0 <= lowest <= highest for lowest, highest in ranges.values())


@pytest.mark.parametrize(
    ("api_key", "version"),
    [(FETCH, 3), (FETCH, 99), (PRODUCE, 0), (PRODUCE, 2), (999, 0)],
    ids=["fetch-3", "fetch-99", "produce-0", "produce-2", "unknown-key"],
)
def test_unsupported_version_or_key_closes(connection: Connection, api_key: int, version: int) -> None:
    """No answer: there is no version of the API in which the client could read one."""
    connection.send(api_key, version, b"\0" * 16, flexible=False)
    assert connection.is_closed_by_broker()


@pytest.mark.parametrize("length", [-1, -(2**31), 100 * 1024 * 1024 + 1, 2**31 - 1])
def test_impossible_frame_length_closes(connection: Connection, length: int) -> None:
    """Negative, or above socket.request.max.bytes (100 MiB)."""
    connection.send_bytes(struct.pack(">i", length) + b"\0" * 20)
    assert connection.is_closed_by_broker()


def test_body_that_ends_early_closes(connection: Connection) -> None:
    """A Metadata request whose array is said to be longer than the frame."""
    connection.send(3, 1, struct.pack(">i", 1000), flexible=False)
    assert connection.is_closed_by_broker()


def test_null_client_id(broker: Broker) -> None:
    """It is nullable, and null is fine."""
    with Connection(broker.bootstrap, client_id=None) as connection:
        assert is_usable(connection)


def test_empty_client_id(broker: Broker) -> None:
    """As fine as null."""
    with Connection(broker.bootstrap, client_id="") as connection:
        assert is_usable(connection)


@pytest.mark.parametrize("name", ["", "with space", "-dash-first", "ünï"])
def test_bad_client_software_name(connection: Connection, name: str) -> None:
    """42, and the connection stays usable."""
    answer = connection.ask("api_versions", 3, client_software_name=name, client_software_version="1")
    assert answer.error_code == 42
    assert is_usable(connection)


def test_answers_come_in_the_order_of_requests(connection: Connection, topic: str) -> None:
    """A Metadata sent behind a long-polling Fetch waits for it, although it could be answered at once."""
    started = time.monotonic()
    slow = connection.post("fetch", 12, **fetch_request(topic, max_wait=700))
    quick = connection.post("metadata", 12, topics=[])
    connection.collect(slow)
    waited = time.monotonic() - started
    connection.collect(quick)
    assert 0.65 < waited < 20


def test_pipelined_requests_in_one_packet(connection: Connection) -> None:
    """Several frames in one write, and one frame byte by byte."""
    frames = b"".join(
        struct.pack(">ihhih", 10, API_VERSIONS, 0, correlation, -1) for correlation in (7, 8, 9)
    )
    connection.send_bytes(frames[:-1])
    first = connection.receive_frame()
    connection.send_bytes(frames[-1:])
    received = [first, connection.receive_frame(), connection.receive_frame()]
    assert [struct.unpack_from(">i", frame)[0] for frame in received] == [7, 8, 9]


def test_acks_0_is_not_answered(connection: Connection, topic: str) -> None:
    """The next answer on the connection belongs to the next request."""
    connection.post("produce", 9, **produce_request(topic, acks=0))
    assert produce(connection, topic).base_offset == 1


def test_acks_0_with_an_error_closes(connection: Connection) -> None:
    """There is no answer in which to say it, so closing makes the client refresh its metadata."""
    connection.post("produce", 9, **produce_request(unique("missing"), acks=0))
    assert connection.is_closed_by_broker()


def test_authorized_operations_not_requested(connection: Connection, topic: str, group: str) -> None:
    """The smallest int32 exactly, in Metadata and in DescribeGroups."""
    metadata = connection.ask("metadata", 10, topics=[{"name": topic}])
    assert metadata.topics[0].topic_authorized_operations == NO_OPERATIONS_ASKED
    assert metadata.cluster_authorized_operations == NO_OPERATIONS_ASKED
    described = connection.ask("describe_groups", 5, groups=[group])
    assert described.groups[0].authorized_operations == NO_OPERATIONS_ASKED


def test_closing_while_a_fetch_waits(connect: Callable[[], Connection], topic: str) -> None:
    """A client that leaves in the middle of a long poll disturbs nobody."""
    leaving = connect()
    leaving.post("fetch", 12, **fetch_request(topic, max_wait=2000))
    leaving.close()
    staying = connect()
    assert produce(staying, topic).error_code == 0


def test_requests_behind_a_produce_see_it(connection: Connection) -> None:
    """Pipelined Produce then Fetch: the fetch is handled after the produce."""
    name = unique("pipelined")
    create_topic(connection, name)
    produced = connection.post("produce", 9, **produce_request(name))
    fetched = connection.post("fetch", 12, **fetch_request(name, max_wait=1000))
    assert connection.collect(produced).responses[0].partition_responses[0].error_code == 0
    assert connection.collect(fetched).responses[0].partitions[0].high_watermark == 1
