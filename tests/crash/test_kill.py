"""kill -9 at random moments under idempotent load with a live group: nothing acknowledged is broken."""

from __future__ import annotations

import time
from pathlib import Path

from kafka.admin import KafkaAdminClient, NewTopic

from pykbroker.testing import BrokerProcess
from tests.crash.load import Member, Promises, Writer, broken_promises
from tests.scale import scaled, seeded

PARTITIONS = 4
TOPIC, GROUP = "numbers", "readers"


def test_nothing_acknowledged_is_lost_doubled_or_reordered_by_kills(tmp_path: Path) -> None:
    kills = scaled(3, 20)
    random_ = seeded(20)
    promises = Promises()
    with BrokerProcess(data_dir=tmp_path, settings={"log.segment.bytes": "200000"}) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
        admin.close()
        writer = Writer(broker.bootstrap, TOPIC, PARTITIONS, promises)
        member = Member(broker.bootstrap, TOPIC, GROUP, promises)
        writer.start()
        member.start()
        for _ in range(kills):
            before = sum(map(len, promises.offsets.values())), sum(promises.commits.values())
            _wait_for_progress(promises, before)
            time.sleep(random_.uniform(0.0, 0.7))
            broker.kill()
            broker.start()
        _wait_for_progress(
            promises, (sum(map(len, promises.offsets.values())), sum(promises.commits.values()))
        )
        writer.stop()
        member.stop()
        problems = broken_promises(broker.bootstrap, TOPIC, GROUP, writer, promises)
    print(
        f"{kills} kills, {sum(map(len, promises.offsets.values()))} records, {member.seen} read by the group"
    )
    assert not promises.failures, promises.failures[:5]
    assert problems == {"lost": [], "doubled": [], "reordered": [], "commits": []}


def _wait_for_progress(promises: Promises, before: tuple[int, int]) -> None:
    """Until records were acknowledged and a commit was acknowledged since ``before``."""
    deadline = time.monotonic() + 60
    while True:
        records, commits = sum(map(len, list(promises.offsets.values()))), sum(promises.commits.values())
        if records > before[0] and commits > before[1]:
            return
        assert time.monotonic() < deadline, f"no progress in 60 s: {records} records, commits {commits}"
        time.sleep(0.02)
