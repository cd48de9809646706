"""From measured rounds to a table, a JSON file and a chart."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tools.pictures.svg import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One figure of one broker in one round; ``cpu_s`` is the broker's CPU time in that scenario."""

    scenario: str
    figure: str
    broker: str
    round: int
    value: float
    cpu_s: float
    resident_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table: medians of both brokers and their ratio (above 1: pykbroker is better)."""

    label: str
    kafka: float
    ours: float
    advantage: float
    kafka_spread: tuple[float, float]
    ours_spread: tuple[float, float]
    kafka_cpu_s: float
    ours_cpu_s: float


def rows(samples: Sequence[Sample]) -> list[Row]:
    """One row per scenario and figure, in the order of measurement."""
    keys = list(dict.fromkeys((s.scenario, s.figure) for s in samples))
    return [_row(scenario, figure, samples) for scenario, figure in keys]


def _row(scenario: str, figure: str, samples: Sequence[Sample]) -> Row:
    mine = [s for s in samples if (s.scenario, s.figure) == (scenario, figure)]
    kafka = [s for s in mine if s.broker == "Apache Kafka"]
    ours = [s for s in mine if s.broker == "pykbroker"]
    kafka_median = median(s.value for s in kafka)
    ours_median = median(s.value for s in ours)
    lower_is_better = figure.endswith("ms")
    return Row(
        label=f"{scenario} {figure}",
        kafka=kafka_median,
        ours=ours_median,
        advantage=kafka_median / ours_median if lower_is_better else ours_median / kafka_median,
        kafka_spread=(min(s.value for s in kafka), max(s.value for s in kafka)),
        ours_spread=(min(s.value for s in ours), max(s.value for s in ours)),
        kafka_cpu_s=median(s.cpu_s for s in kafka),
        ours_cpu_s=median(s.cpu_s for s in ours),
    )


def markdown(table: Sequence[Row]) -> str:
    """The table as Markdown; every figure is a median, with the spread in brackets."""
    lines = [
        "| scenario | Apache Kafka | pykbroker | ratio | broker CPU s, Kafka / pykbroker |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in table:
        lines.append(
            f"| {row.label} | {_cell(row.kafka, row.kafka_spread)} | {_cell(row.ours, row.ours_spread)} "
            f"| {row.advantage:.2f} | {row.kafka_cpu_s:.2f} / {row.ours_cpu_s:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _cell(value: float, spread: tuple[float, float]) -> str:
    return f"{_number(value)} ({_number(spread[0])} to {_number(spread[1])})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def save(path: Path, samples: Sequence[Sample], machine: dict[str, str]) -> None:
    """Write every sample, so that a later reader can check the medians."""
    path.write_text(
        json.dumps({"machine": machine, "samples": [asdict(s) for s in samples]}, indent=1) + "\n"
    )


def load(path: Path) -> list[Sample]:
    """What :func:`save` has written, without the machine."""
    return [Sample(**each) for each in json.loads(path.read_text())["samples"]]


def chart(table: Sequence[Row]) -> Picture:
    """The ratios on a logarithmic axis: right of the middle, pykbroker is ahead."""
    width, left, step, top = 900, 260, 36, 92
    middle, scale = left + 270, 110.0  # pixels per factor of two
    bottom = top + step * len(table)
    picture = Picture(
        width,
        bottom + 60,
        "pykbroker beside Apache Kafka",
        "Ratios of medians; above 1, pykbroker is ahead. "
        + " ".join(f"{row.label}: {row.advantage:.2f}." for row in table),
    )
    picture.text(24, 34, "pykbroker beside Apache Kafka", size=18, bold=True)
    picture.text(24, 58, "1 = equal. Medians of interleaved rounds on the same machine.", tone="quiet")
    for power in (-2, -1, 0, 1, 2):
        x = middle + power * scale
        picture.line((x, top - 8), (x, bottom + 4), tone="line" if power == 0 else "rule", width=1)
        picture.text(x, bottom + 24, f"{2.0**power:g}x", anchor="middle", size=12, tone="quiet")
    picture.text(middle - 12, bottom + 46, "Apache Kafka is ahead", anchor="end", size=12, tone="quiet")
    picture.text(middle + 12, bottom + 46, "pykbroker is ahead", size=12, tone="quiet")
    for index, row in enumerate(table):
        y = top + index * step
        shift = max(-2.2, min(2.2, math.log2(row.advantage))) * scale
        picture.text(left - 16, y + 19, row.label, anchor="end")
        picture.bar(
            middle + min(0.0, shift), y + 5, abs(shift), 20, "good-line" if shift >= 0 else "plugin-line"
        )
        edge = middle + shift + (8 if shift >= 0 else -8)
        picture.text(
            edge, y + 20, f"{row.advantage:.2f}", anchor="start" if shift >= 0 else "end", size=12, halo=True
        )
    return picture
