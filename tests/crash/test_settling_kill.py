"""kill -9 while held logs are rewritten all the time: what waits comes once and not early, and the disk is
given back."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from pykbroker.partitions.check import check
from pykbroker.testing import BrokerProcess
from tests.crash.test_delivery_kill import (
    LATER,
    PATIENCE_S,
    Watcher,
    came_early,
    now_ms,
    problems_of_delays,
    read,
    wait_for_progress,
)
from tests.crash.test_forward_kill import a_producer
from tests.scale import scaled, seeded

HURRIED = """
from pykbroker.catalog import role_topics
from pykbroker.delivery import indexing, settling, tidying

role_topics.FLOW_SETTINGS = {**role_topics.FLOW_SETTINGS, "segment.bytes": "20000"}
indexing.FLOOR_S = settling.SOON_S = tidying.SOON_S = tidying.TIDY_S = 0.02
"""
"""Small segments, and no pauses: otherwise that takes gigabytes and minutes.  (It is no plugin, and the
broker says so; but it was imported.)"""


class Sender(threading.Thread):
    """Records with delays, of which every ninth is a long one, until stopped."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(name="sender", daemon=True)
        self._address = bootstrap
        self._stopping = threading.Event()
        self._random = random.Random(7)
        self.failures: list[str] = []
        self.acknowledged = 0
        self.sent: dict[bytes, int] = {}

    def run(self) -> None:
        producer = a_producer(self._address)
        futures = []
        while not self._stopping.is_set():
            for _ in range(5):
                number = len(self.sent)
                delay_ms = self._random.randrange(*((4000, 9000) if number % 9 == 0 else (20, 200)))
                value, stamp = b"%d:%d:" % (number, delay_ms) + bytes(200), now_ms()
                headers = [("pykbroker-delay-ms", b"%d" % delay_ms)]
                self.sent[value] = stamp
                future = producer.send(LATER, value, None, headers, number // 5 % 2, stamp)
                futures.append(future.add_callback(self._acknowledged))
            time.sleep(0.01)
        producer.flush(timeout=PATIENCE_S)
        for future in futures:
            try:
                future.get(timeout=1)
            except KafkaError as error:
                self.failures.append(repr(error))
        producer.close()

    def _acknowledged(self, _: object) -> None:
        self.acknowledged += 1

    def stop(self) -> None:
        self._stopping.set()
        self.join(180)
        assert not self.is_alive(), "sends are neither acknowledged nor refused"


def test_a_kill_while_held_logs_are_rewritten(tmp_path: Path) -> None:
    kills = scaled(3, 20)
    random_ = seeded(13)
    plugin = tmp_path / "hurried.py"
    plugin.write_text(HURRIED)
    data_dir = tmp_path / "data"
    rewritten, sizes = 0, []
    settings = {"file.delete.delay.ms": "100"}
    with BrokerProcess(data_dir=data_dir, settings=settings, plugins=[str(plugin)]) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.create_topics([NewTopic(LATER, 2, 1, topic_configs={"pykbroker.delay.enable": "true"})])
        admin.close()
        sender, watcher = Sender(broker.bootstrap), Watcher(broker.bootstrap)
        sender.start()
        watcher.start()
        for _ in range(kills):
            wait_for_progress(
                broker, {"sent": lambda: sender.acknowledged, "read": lambda: len(watcher.seen)}
            )
            time.sleep(random_.uniform(0.2, 1.5))
            broker.kill()
            sizes.append(held_bytes(data_dir))
            broker.start()
        sender.stop()
        deadline = time.monotonic() + PATIENCE_S
        while left := sender.sent.keys() - watcher.seen.keys():
            assert time.monotonic() < deadline, f"nobody has read {[each[:20] for each in left][:5]}"
            time.sleep(0.1)
        watcher.stop()
        problems: dict[str, object] = {LATER: problems_of_delays(read(broker.bootstrap, LATER), sender.sent)}
        problems |= {"early": came_early(watcher.seen, sender.sent)[:5], "failures": sender.failures}
        rewritten = broker.output().count("compacted: partition=__pykbroker_held_")
        assert broker.stop() == 0
    print(f"{kills} kills, {len(sender.sent)} records, {rewritten} times rewritten, bytes {sizes}")
    assert {name: each for name, each in problems.items() if each} == {}
    assert check(data_dir).problems == []
    assert rewritten >= 2


def held_bytes(data_dir: Path) -> int:
    return sum(path.stat().st_size for path in data_dir.glob("__pykbroker_held_*/*.log"))
