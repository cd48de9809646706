"""From measured rounds to a table, a JSON file and a chart."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median


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


def chart(table: Sequence[Row]) -> str:
    """An SVG of the ratios on a logarithmic axis: right of the line, pykbroker is ahead."""
    width, left, line, top = 760, 230, 34, 46
    height = top + line * len(table) + 40
    middle, scale = left + 250, 100.0  # pixels per factor of two
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        '<text x="12" y="22" font-size="15" font-weight="600" fill="#111827">'
        "pykbroker beside Apache Kafka (1 = equal; medians of interleaved rounds)</text>",
    ]
    for power in (-2, -1, 0, 1, 2):
        x = middle + power * scale
        colour = "#111827" if power == 0 else "#d1d5db"
        label = f"{2.0**power:g}x"
        parts.append(f'<line x1="{x}" y1="{top - 8}" x2="{x}" y2="{height - 30}" stroke="{colour}"/>')
        parts.append(f'<text x="{x}" y="{height - 12}" text-anchor="middle" fill="#4b5563">{label}</text>')
    for index, row in enumerate(table):
        y = top + index * line
        shift = max(-2.3, min(2.3, math.log2(row.advantage))) * scale
        x = middle + min(0.0, shift)
        colour = "#059669" if shift >= 0 else "#d97706"
        parts.append(
            f'<text x="{left - 10}" y="{y + 17}" text-anchor="end" fill="#111827">{row.label}</text>'
        )
        parts.append(f'<rect x="{x:.1f}" y="{y + 4}" width="{abs(shift):.1f}" height="18" fill="{colour}"/>')
        anchor, edge = ("start", middle + shift + 6) if shift >= 0 else ("end", middle + shift - 6)
        place = f'x="{edge:.1f}" y="{y + 17}" text-anchor="{anchor}"'
        parts.append(f'<text {place} fill="#111827">{row.advantage:.2f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
