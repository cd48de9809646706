"""``python -m bench``: measure pykbroker beside Apache Kafka and print the table.

Both brokers run at the same time on the same machine, both are loaded before anything is measured,
rounds are interleaved and the order alternates; the table gives ratios of medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.progress import Progress

from bench.brokers import Running, both
from bench.report import Sample, chart, markdown, rows, save
from bench.scenarios import SCENARIOS, Scenario, create_topic, delete_topic


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios and write what was asked for; exit status 0 when all of them ran."""
    options = _parser().parse_args(arguments)
    chosen = [s for s in SCENARIOS if not options.only or s.name in options.only]
    with tempfile.TemporaryDirectory(prefix="pykbroker-bench-") as folder, both(Path(folder)) as brokers:
        samples = _measure(brokers, chosen, options.rounds)
        resident = {broker.name: broker.resident_bytes() / 1e6 for broker in brokers}
    table = rows(samples)
    print(markdown(table))
    print("resident memory at the end: " + ", ".join(f"{name} {mb:.0f} MB" for name, mb in resident.items()))
    if options.json:
        save(options.json, samples, _machine())
    if options.chart:
        options.chart.write_text(chart(table).svg())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (default %(default)s)")
    parser.add_argument(
        "--only", action="append", choices=[s.name for s in SCENARIOS], help="one scenario; may be repeated"
    )
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--chart", type=Path, help="write an SVG of the ratios to this file")
    return parser


def _measure(brokers: Sequence[Running], chosen: Sequence[Scenario], rounds: int) -> list[Sample]:
    samples: list[Sample] = []
    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("measuring", total=(rounds + 1) * len(chosen) * len(brokers))
        for number in range(rounds + 1):  # round 0 warms both brokers up and is not counted
            for scenario in chosen:
                order = brokers if number % 2 else tuple(reversed(brokers))
                for broker in order:
                    taken = _sample(broker, scenario, number)
                    samples += taken if number else []
                    progress.advance(task)
    return samples


def _sample(broker: Running, scenario: Scenario, number: int) -> list[Sample]:
    topic = f"bench-{scenario.name}-{number}"
    create_topic(broker.bootstrap, topic)
    if scenario.prepare is not None:
        scenario.prepare(broker.bootstrap, topic)
    before = broker.cpu_seconds()
    figures = scenario.run(broker.bootstrap, topic)
    cpu_s = broker.cpu_seconds() - before
    delete_topic(broker.bootstrap, topic)
    return [
        Sample(
            scenario=scenario.name,
            figure=figure,
            broker=broker.name,
            round=number,
            value=value,
            cpu_s=cpu_s,
            resident_mb=broker.resident_bytes() / 1e6,
        )
        for figure, value in figures.items()
    ]


def _machine() -> dict[str, str]:
    packages = ("confluent-kafka", "kafka-python", "trio", "crc32c")
    return {
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "Apache Kafka": "4.3.1",
        **{name: version(name) for name in packages},
    }


if __name__ == "__main__":
    sys.exit(main())
