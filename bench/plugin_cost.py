"""What plugins cost that are installed and not used: ``python -m bench.plugin_cost``.

Two brokers side by side, one with pykbroker's own plugins as it comes, one with ``pykbroker.plugins=off``
(which leaves only what exchanges and partitioners need).  In each round each of them answers the same
number of Produce and of Fetch requests, in turns and in changing order; what counts is the CPU time of
the broker's process per request, as the kernel accounts it.  Prints medians with their spread, and how
much the first needs more than the second; fails above the limit.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from struct import Struct

from pykbroker.protocol.frames import encode_request
from pykbroker.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from pykbroker.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from pykbroker.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.testing import BrokerProcess

LIMIT = 0.02
"""Share of the broker's CPU per request that unused plugins may cost."""
WINDOW = 5
"""Requests in flight, as many as clients have by default."""
RECORDS, VALUE = 10, b"v" * 100

_LENGTH = Struct(">i")


class Line:
    """A connection that asks the same thing again and again."""

    def __init__(self, bootstrap: str, request: bytes) -> None:
        host, _, port = bootstrap.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")
        self._request = request

    def ask(self, count: int) -> None:
        """Have ``count`` requests answered, a few in flight at a time."""
        asked = 0
        for answered in range(count):
            more = min(count, answered + WINDOW) - asked
            if more > 0:
                self._socket.sendall(self._request * more)
                asked += more
            (length,) = _LENGTH.unpack(self._answers.read(_LENGTH.size))
            self._answers.read(length)

    def close(self) -> None:
        """Close the connection."""
        self._answers.close()
        self._socket.close()


def create() -> bytes:
    """A request that makes the topic."""
    topic = CreatableTopic(name="t", num_partitions=1, replication_factor=1, assignments=[], configs=[])
    return encode_request(
        CreateTopicsRequest(topics=[topic], timeout_ms=30_000, validate_only=False), 5, 1, "cost"
    )


def produce() -> bytes:
    """A Produce of one batch of a few small records."""
    batch = encode_batch([RecordData(None, VALUE)] * RECORDS, timestamp_ms=1)
    data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=batch)])
    return encode_request(ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[data]), 9, 1, "cost")


def fetch() -> bytes:
    """A Fetch of the first few batches."""
    wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=16 * 1024)
    request = FetchRequest(
        max_wait_ms=500, min_bytes=1, max_bytes=16 * 1024, topics=[FetchTopic(topic="t", partitions=[wanted])]
    )
    return encode_request(request, 12, 1, "cost")


def cpu_ns(pid: int) -> int:
    """CPU time that all threads of a process have used so far."""
    return sum(
        int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()
    )


class Subject:
    """One of the two brokers, and what it has needed."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.pid = broker.pid
        with_topic = Line(broker.bootstrap, create())
        with_topic.ask(1)
        with_topic.close()
        self.lines = {
            "produce": Line(broker.bootstrap, produce()),
            "fetch": Line(broker.bootstrap, fetch()),
        }
        self.costs: dict[str, list[float]] = {name: [] for name in self.lines}

    def measure(self, name: str, count: int) -> None:
        """Note the CPU time per request, in microseconds."""
        before = cpu_ns(self.pid)
        self.lines[name].ask(count)
        self.costs[name].append((cpu_ns(self.pid) - before) / count / 1000)

    def warm_up(self, count: int) -> None:
        """Have everything imported and compiled that will be needed."""
        for line in self.lines.values():
            line.ask(count)

    def close(self) -> None:
        """Close the connections."""
        for line in self.lines.values():
            line.close()


def row(name: str, plain: Sequence[float], plugged: Sequence[float]) -> tuple[str, float]:
    """A line of the table, and the share that the plugins cost: the median over the rounds.

    The two measurements of a round are neighbours in time, so that what else the machine does meanwhile
    weighs on both; it does not on the medians of either alone.
    """
    low, share, high = quantiles([b / a - 1 for a, b in zip(plain, plugged, strict=True)], n=4)
    of_medians = median(plugged) / median(plain) - 1
    text = (
        f"| {name} | {_spread(plain)} | {_spread(plugged)} | {of_medians:+.2%} "
        f"| {share:+.2%} ({low:+.2%} to {high:+.2%}) |"
    )
    return text, share


def _spread(costs: Sequence[float]) -> str:
    low, middle, high = quantiles(costs, n=4)
    return f"{middle:.1f} ({low:.1f} to {high:.1f}; {min(costs):.1f} to {max(costs):.1f})"


def main() -> int:
    """Measure and print; the exit status says whether the limit was kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60, help="rounds, at least 20 for a verdict [60]")
    parser.add_argument("--requests", type=int, default=700, help="requests per round and line [700]")
    args = parser.parse_args()
    with ExitStack() as stack:
        without = BrokerProcess(settings={"pykbroker.plugins": "off"})
        plain = Subject(stack.enter_context(without))
        plugged = Subject(stack.enter_context(BrokerProcess()))
        stack.callback(plain.close)
        stack.callback(plugged.close)
        for subject in (plain, plugged):
            subject.warm_up(args.requests)
        for number in range(args.rounds):
            order = (plain, plugged) if number % 2 else (plugged, plain)
            for name in plain.lines:
                for subject in order:
                    subject.measure(name, args.requests)
    print(f"CPU microseconds per request, median (quartiles; extremes) of {args.rounds} interleaved rounds")
    print(f"of {args.requests} requests each. Cost: of the medians; and by round, median (quartiles)\n")
    print("| line | plugins off | plugins installed, unused | cost of medians | cost by round |")
    print("|---|---:|---:|---:|---:|")
    worst = -1.0
    for name in plain.lines:
        text, share = row(name, plain.costs[name], plugged.costs[name])
        print(text)
        worst = max(worst, share)
    kept = worst <= LIMIT
    print(f"\nworst {worst:+.2%}, limit {LIMIT:.0%}: {'kept' if kept else 'NOT kept'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
