"""Malformed frames over every API key and version: each is answered or its connection closed."""

from __future__ import annotations

import random
import re
import struct
from collections import Counter
from itertools import cycle
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer

from pykbroker.apis._registry import load
from pykbroker.protocol.codec import reader
from pykbroker.protocol.errors import ProtocolError
from pykbroker.protocol.frames import body_start, parse_request_header
from pykbroker.protocol.messages.fetch import FetchRequest
from pykbroker.protocol.messages.join_group import JoinGroupRequest
from pykbroker.protocol.messages.produce import ProduceRequest
from pykbroker.protocol.messages.sync_group import SyncGroupRequest
from pykbroker.protocol.schema import Message
from pykbroker.testing import BrokerProcess
from tests.fuzz.frames import FuzzFrame, fuzz_frame
from tests.rawclient import Closed, RawClient
from tests.scale import scaled, seeded

_ANSWER_S = 30.0
"""None: the broker does not answer, however busy the machine is."""
_LONG_POLL_MS = 1_000
"""A fetch that may wait longer may be silent."""
_MIB = 1024 * 1024


def test_every_malformed_frame_is_answered_or_closed(tmp_path: Path) -> None:
    count = scaled(2_000, 10_000)
    outcomes: Counter[str] = Counter()
    unanswered: list[str] = []
    # Traffic that creates and deletes thousands of topics is no part of this story.
    with BrokerProcess(data_dir=tmp_path, settings={"auto.create.topics.enable": "true"}) as broker:
        requests = {entry.request: entry.versions for entry in load().values()}
        pairs = [(kind, v) for kind, (low, high) in requests.items() for v in range(low, high + 1)]
        rng = seeded(4)
        _send_all(
            broker.bootstrap, pairs, len(pairs), rng, Counter(), []
        )  # every codec compiled, every topic made
        before = _resident(broker.pid)
        _send_all(broker.bootstrap, pairs, count, rng, outcomes, unanswered)
        growth = _resident(broker.pid) - before
        _a_client_works(broker.bootstrap)
        output = broker.output()
    print(f"{count} frames: {dict(outcomes)}; memory grew by {growth / _MIB:.1f} MiB")
    assert unanswered == []
    assert growth < 32 * _MIB
    tracebacks = re.findall(r"^ *Traceback.*?(?=^\d{4}-)", output, re.MULTILINE | re.DOTALL)
    assert tracebacks == []


def _send_all(
    bootstrap: str,
    pairs: list[tuple[type[Message], int]],
    count: int,
    rng: random.Random,
    outcomes: Counter[str],
    unanswered: list[str],
) -> None:
    client = RawClient(bootstrap, _ANSWER_S)
    for correlation, (request, version) in zip(range(count), cycle(pairs), strict=False):
        frame = fuzz_frame(request, version, correlation, rng)
        outcome = _outcome(client, frame, request)
        outcomes[outcome] += 1
        if outcome == "unanswered":
            unanswered.append(f"{request.__name__} v{version} {frame.mutation}: {frame.data[:300].hex()}")
        if outcome != "answered":
            client.close()
            client = RawClient(bootstrap, _ANSWER_S)
    client.close()


def _outcome(client: RawClient, frame: FuzzFrame, request: type[Message]) -> str:
    may_be_silent = not frame.whole or _may_wait(frame, request)
    client.socket.settimeout(0.05 if may_be_silent else _ANSWER_S)
    try:
        client.send(frame.data)
        answer = client.receive()
    except Closed:
        return "closed"
    except TimeoutError:
        return "waits" if may_be_silent else "unanswered"
    correlation = struct.unpack_from(">i", frame.data, 8)[0] if len(frame.data) >= 12 else None
    assert struct.unpack_from(">i", answer)[0] == correlation, f"answer to another request: {frame}"
    return "answered"


def _may_wait(frame: FuzzFrame, request: type[Message]) -> bool:
    """Whether silence is right: acks=0, long polls, rebalances, or what is no such request any more."""
    data = memoryview(frame.data)[4:]
    try:
        header = parse_request_header(data)
        if (header.api_key, header.api_version) != (frame.key, frame.version):
            return True
        message, _ = reader(request, frame.version)(data, body_start(data, header, request))
    except ProtocolError:
        return False
    if isinstance(message, ProduceRequest):
        return message.acks == 0
    if isinstance(message, FetchRequest):
        return message.max_wait_ms > _LONG_POLL_MS
    return isinstance(message, JoinGroupRequest | SyncGroupRequest)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def _a_client_works(bootstrap: str) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send("after-the-storm", b"still here").get(10)
    producer.close()
    consumer = KafkaConsumer(
        "after-the-storm",
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        consumer_timeout_ms=30_000,
    )
    assert next(consumer).value == b"still here"
    consumer.close()
