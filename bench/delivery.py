"""``python -m bench.delivery``: failed deliveries and delays: how many, how late, how much memory.

Four measurements, each in a broker of its own, a child process on a temporary data directory:

* failures per second, from the first until the last record is readable in the retry topic (delay 0): by
  *produce* with librdkafka, and by *nack*, 200 of 400 records in each commit;
* lateness: how long after its time a record is with a consumer that waits for it, under light load: of
  retried records after the time that follows from the broker's own headers, in a delay topic after the
  producer's clock plus the delay, so with the time for producing;
* memory: what the broker has more in memory with 1,000,000 records waiting than before them;
* restart with these waiting: from the start of the process until it listens, and until a consumer has a
  record that fell due while the broker was away; after an orderly stop, after kill -9, and after kill -9
  with the due-time index gone.

Nothing is needed beside pykbroker, confluent-kafka, kafka-python and Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from rich.progress import Progress

from bench.delivery_failures import failures, lateness
from bench.delivery_parts import FULL, QUICK, Figure, Sizes, Step, markdown
from bench.delivery_waiting import memory_and_restart

MEASUREMENTS: dict[str, Callable[[Sizes, Step], Iterator[Figure]]] = {
    "failures": failures,
    "lateness": lateness,
    "waiting": memory_and_restart,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.delivery", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers: whether it works at all")
    parser.add_argument("--only", action="append", choices=sorted(MEASUREMENTS), help="may be repeated")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    chosen = [name for name in MEASUREMENTS if not options.only or name in options.only]
    figures: list[Figure] = []
    steps = {"failures": 2 * (sizes.rounds + 1), "lateness": 1, "waiting": 6 + sizes.waiting // 50_000}
    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("starting", total=sum(steps[name] for name in chosen))

        def step(doing: str) -> None:
            progress.update(task, advance=1, description=doing)

        for name in chosen:
            figures += MEASUREMENTS[name](sizes, step)
    print(markdown(figures))
    if options.json:
        machine = {
            "cores": str(os.cpu_count()),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            **{name: version(name) for name in ("confluent-kafka", "trio")},
        }
        document = {"machine": machine, "sizes": asdict(sizes), "figures": [asdict(f) for f in figures]}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
