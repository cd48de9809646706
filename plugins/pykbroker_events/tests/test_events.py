"""The audit log and the throughput report, by their kit and on a broker."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pykbroker_events
import pytest
from click.testing import CliRunner
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewPartitions, NewTopic
from pykbroker_events import throughput
from pykbroker_events.audit import WAITING, Journal
from pykbroker_events.command import audit

from pykbroker import NackSkipped, RecordDeadLettered, RecordReplayed, RecordRetried, RecordsAppended
from pykbroker.testing import BrokerThread, check_plugin


def test_conformance(tmp_path: Path) -> None:
    check_plugin(pykbroker_events, settings={"audit": {"file": str(tmp_path / "audit")}})
    check_plugin(throughput, settings={"throughput": {"interval.s": 0.01}})


def events(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_story_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    with BrokerThread(settings={"pykbroker.plugin.audit.file": file}) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap, client_id="admin")
        admin.create_topics([NewTopic("orders", 1, 1)])
        admin.create_partitions({"orders": NewPartitions(2)})
        consumer = KafkaConsumer(
            "orders", bootstrap_servers=broker.bootstrap, group_id="readers", auto_offset_reset="earliest"
        )
        while not consumer.assignment():
            consumer.poll(timeout_ms=500)  # with less time kafka-python 3 may join again and again
        consumer.close()
        admin.delete_topics(["orders"])
        admin.close()
    kept = events(file)
    topics = [(e["change"], e["topic"], e["partitions"]) for e in kept if e["event"] == "topic"]
    assert [t for t in topics if t[1] == "orders"] == [
        ("created", "orders", 1), ("grown", "orders", 2), ("deleted", "orders", 2),
    ]  # fmt: skip
    states = [e["after"] for e in kept if e["event"] == "group" and e["group"] == "readers"]
    assert "Stable" in states
    assert states[-1] == "Empty"
    connections = [e for e in kept if e["event"] == "connection"]
    assert {"opened", "closed"} == {e["change"] for e in connections}
    assert "admin" in {e["client_id"] for e in connections}
    assert [e["change"] for e in kept if e["event"] == "broker"] == ["started", "stopping"]
    assert all(isinstance(e["time_ms"], int) for e in kept)


def test_only_what_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    settings = {"pykbroker.plugin.audit.file": file, "pykbroker.plugin.audit.events": "broker"}
    with BrokerThread(settings=settings) as broker:
        KafkaAdminClient(bootstrap_servers=broker.bootstrap).close()
    assert {event["event"] for event in events(file)} == {"broker"}


def test_failed_deliveries_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(pykbroker_events, "note", lambda kind, **fields: kept.append((kind, fields)))
    failed = {
        "topic": "orders",
        "partition": 3,
        "offset": None,
        "group": "billing",
        "attempt": 2,
        "reason": "no stock",
        "policy": "linear",
        "first_failure_ms": 5,
    }
    retried = {**failed, "retry_topic": "orders.billing.retry", "due_ms": 9}
    letter = {**failed, "dead_letter_topic": "orders.billing.dlq"}
    replayed = {"dead_letter_topic": "d", "partition": 1, "offset": 2, "destination": "orders", "due_ms": 3}
    skipped = {"topic": "orders", "partition": 1, "group": "billing", "offsets": [[1, 4], [9, 9]]}
    pykbroker_events.pykbroker_record_retried(RecordRetried(**retried))  # type: ignore[arg-type]  # its fields
    pykbroker_events.pykbroker_record_dead_lettered(RecordDeadLettered(**letter))  # type: ignore[arg-type]
    pykbroker_events.pykbroker_record_replayed(RecordReplayed(**replayed))  # type: ignore[arg-type]
    pykbroker_events.pykbroker_nack_skipped(NackSkipped(**skipped))  # type: ignore[arg-type]
    assert kept == [
        ("retried", retried),
        ("dead-lettered", letter),
        ("replayed", replayed),
        ("nack-skipped", skipped),
    ]


def test_no_file_no_log(tmp_path: Path, pykbroker: BrokerThread) -> None:
    KafkaAdminClient(bootstrap_servers=pykbroker.bootstrap).close()
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "audit", ["topic"], lambda: 1)
    for number in range(WAITING + 3):
        journal.note("topic", {"number": number})
    journal.note("group", {})
    assert journal.dropped == 3
    journal.write()
    assert [event["number"] for event in events(journal.file)] == list(range(WAITING))


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    lines = [{"time_ms": 0, "event": "topic", "topic": f"t{n}", "settings": {}} for n in range(3)]
    file.write_text("\n".join([json.dumps({"event": "group"}), "garbage", *map(json.dumps, lines)]) + "\n")
    result = CliRunner().invoke(audit, [str(file), "--event", "topic", "-n", "2"])
    assert result.exit_code == 0
    assert [line.split("  ")[1:] for line in result.stdout.splitlines()] == [
        ["topic", "topic=t1"],
        ["topic", "topic=t2"],
    ]
    assert "line 2 is no event: garbage" in result.stderr


def test_totals_begin_anew() -> None:
    totals = throughput.Totals()
    for offset in (0, 10):
        totals.add(
            RecordsAppended(
                topic="t", partition=0, base_offset=offset, last_offset=offset + 4, size=100, timestamp_ms=0
            )
        )
    assert totals.take() == {"t": (2, 10, 200)}
    assert totals.take() == {}


@pytest.mark.pykbroker(
    plugins=["pykbroker_events.throughput"], settings={"pykbroker.plugin.throughput.interval.s": 0.05}
)
def test_throughput_is_reported(pykbroker: BrokerThread, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pykbroker_events"):
        producer = KafkaProducer(bootstrap_servers=pykbroker.bootstrap)
        producer.send("orders", b"one").get(10)
        producer.close()
        deadline = time.monotonic() + 20
        while "throughput: topic=orders" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
    assert "throughput: topic=orders batches=1 records=1" in caplog.text
