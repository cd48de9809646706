"""What the measurements of :mod:`bench.delivery` share: sizes, figures, clients, a broker's process."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from pykbroker.testing import BrokerProcess

PARTITIONS = 4
GROUP = "bench"
VALUE = b"v" * 200
PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    rounds: int
    failures: int
    """Records in each round."""
    light_s: float
    """Seconds of light load."""
    waiting: int
    """Records that wait."""


FULL = Sizes(rounds=3, failures=40_000, light_s=60.0, waiting=1_000_000)
QUICK = Sizes(rounds=1, failures=10_000, light_s=10.0, waiting=50_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table; ``asked`` is the goal in words."""

    what: str
    unit: str
    value: float
    asked: str = ""
    samples: Sequence[float] = ()


Step = Callable[[str], None]
"""Called with what is being done; the bar moves on."""


def resident_mb(broker: BrokerProcess, field: str = "VmRSS") -> float:
    """Resident memory now (``VmHWM``: at its highest)."""
    status = Path(f"/proc/{broker.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def cpu_s(broker: BrokerProcess) -> float:
    """User and system time used so far."""
    fields = Path(f"/proc/{broker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_idle(broker: BrokerProcess) -> None:
    """Until it has used next to no CPU for two seconds: nothing arrives or is indexed any more."""
    deadline = time.monotonic() + PATIENCE_S
    quiet = 0
    while quiet < 4:
        assert time.monotonic() < deadline, "the broker does not come to rest"
        before = cpu_s(broker)
        time.sleep(0.5)
        quiet = quiet + 1 if cpu_s(broker) - before <= 0.03 else 0


@contextmanager
def a_broker() -> Iterator[BrokerProcess]:
    """A broker on a temporary data directory."""
    with (
        tempfile.TemporaryDirectory(prefix="pykbroker-bench-") as folder,
        BrokerProcess(data_dir=Path(folder) / "data") as broker,
    ):
        yield broker


def create(bootstrap: str, topic: str, partitions: int, **configs: str) -> None:
    """A topic; underscores in the names of configs stand for dots, ``pykbroker.`` goes in front."""
    config = {"pykbroker." + name.replace("_", "."): value for name, value in configs.items()}
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, config=config)])[topic].result(30)


def a_producer(bootstrap: str) -> Producer:
    return Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000}
    )


def a_consumer(bootstrap: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "allow.auto.create.topics": True,
            "fetch.wait.max.ms": 100,
            "reconnect.backoff.ms": 5,
            "reconnect.backoff.max.ms": 20,
        }
    )


def flush(producer: Producer) -> None:
    """Until everything is acknowledged."""
    assert producer.flush(PATIENCE_S) == 0, "not everything was acknowledged"


def markdown(figures: Sequence[Figure]) -> str:
    """The table."""
    lines = ["| figure | value | asked |", "|---|---:|---|"]
    for figure in figures:
        spread = ""
        if figure.unit == "records/s" and len(figure.samples) > 1:
            spread = f" ({_number(min(figure.samples))} to {_number(max(figure.samples))})"
        value = f"{_number(figure.value)} {figure.unit}{spread}"
        lines.append(f"| {figure.what} | {value} | {figure.asked} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
