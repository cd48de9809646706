"""The two brokers under test, and what the operating system says of their processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from interop.kafka.server import ApacheKafka
from pykbroker.testing import BrokerProcess

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Running:
    """A broker that serves: its name in the table, where it listens, and its process id."""

    name: str
    bootstrap: str
    pid: int

    def cpu_seconds(self) -> float:
        """User and system time that the process has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND

    def resident_bytes(self) -> int:
        """Resident memory now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_BYTES


@contextlib.contextmanager
def both(folder: Path) -> Iterator[tuple[Running, Running]]:
    """Apache Kafka (fully compiling JVM) and pykbroker, each on a data directory below ``folder``."""
    kafka = ApacheKafka(folder / "kafka", warm=True)
    with kafka, BrokerProcess(data_dir=folder / "pykbroker") as ours:
        assert kafka.pid is not None
        yield (
            Running("Apache Kafka", kafka.bootstrap, kafka.pid),
            Running("pykbroker", ours.bootstrap, ours.pid),
        )
