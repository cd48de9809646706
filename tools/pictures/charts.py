"""The benchmarks' figures, from the files that the benchmarks have written."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Final, TypedDict

from bench.report import chart, load, rows
from tools.pictures.svg import Picture

BENCH: Final = Path(__file__).parents[2] / "bench"

LEFT: Final = 330
"""Where bars begin."""

LONGEST: Final = 440
"""How long the longest bar of a panel is."""


class Routing(TypedDict):
    """What ``python -m bench.routing --json`` writes, as far as it is drawn."""

    messages: int
    rates: dict[str, list[float]]


def draw_bench() -> Picture:
    """The comparison with Apache Kafka, from bench/results.json."""
    return chart(rows(load(BENCH / "results.json")))


def draw_delivery() -> Picture:
    """Failed deliveries, from bench/delivery.json."""
    measured = json.loads((BENCH / "delivery.json").read_text())
    figures: dict[str, float] = {each["what"]: each["value"] for each in measured["figures"]}
    waiting = f"{measured['sizes']['waiting']:,}"
    picture = Picture(
        900,
        556,
        "Failed deliveries and delays, measured",
        " ".join(f"{each['what']}: {each['value']:.4g} {each['unit']}." for each in measured["figures"]),
    )
    picture.text(24, 34, "Failed deliveries and delays, measured", size=18, bold=True)
    picture.text(24, 58, "Client and broker share two cores. The red lines are the goals.", tone="quiet")
    y = _panel(picture, 92, "failures a second: more is better")
    for how in ("produce", "nack"):
        value = figures[f"failures by {how}"]
        y = _bar(picture, y, f"by {how}", value, 15_000, f"{value:,.0f}")
    _goal(picture, 104, y - 4, 2_000 / 15_000 * LONGEST, "goal: 2,000")
    y = _panel(picture, y + 38, "how late a record is, 99th percentile in milliseconds: less is better")
    start = y
    for what, label in (("retried", "in a retry topic"), ("delayed", "in a delayed topic")):
        y = _late(picture, y, label, figures, what)
    _goal(picture, start - 8, y - 4, 250 / 280 * LONGEST, "goal: 250")
    y = _panel(picture, y + 38, f"memory in MB with {waiting} records waiting: less is better")
    before = figures["resident memory before"]
    start = y
    for label, value in (
        ("before they came", before),
        ("while they wait", before + figures[f"more with {waiting} waiting"]),
        ("at its highest, while they came", figures["at its highest while they came"]),
    ):
        y = _bar(picture, y, label, value, 80, f"{value:.0f}")
    _goal(picture, start - 8, y - 4, (before + 20) / 80 * LONGEST, "goal: 20 more")
    y = _panel(picture, y + 38, f"seconds until due records are read, with {waiting} waiting: less is better")
    for how, label in (
        ("a stop", "restart after a stop"),
        ("kill -9", "after kill -9"),
        ("kill -9, the index gone", "after kill -9, its index lost"),
    ):
        value = figures[f"restart after {how}: what is due is read"]
        y = _bar(picture, y, label, value, 8, f"{value:.2f}")
    return picture


def _panel(picture: Picture, y: float, head: str) -> float:
    picture.text(24, y, head, bold=True)
    return y + 20


def _bar(picture: Picture, y: float, label: str, value: float, most: float, shown: str) -> float:
    length = value / most * LONGEST
    picture.text(LEFT - 14, y + 12, label, anchor="end", size=12.5)
    picture.bar(LEFT, y, length, 16, "user-line")
    picture.text(LEFT + length + 8, y + 12, shown, size=12)
    return y + 25


def _late(picture: Picture, y: float, label: str, figures: dict[str, float], what: str) -> float:
    middle, most, worst = (
        figures[f"lateness, {what}, {name}"] for name in ("median", "99th percentile", "worst")
    )
    return _bar(picture, y, label, most, 280, f"{most:.1f} (median {middle:.1f}, worst {worst:.0f})")


def _goal(picture: Picture, top: float, bottom: float, at: float, text: str) -> None:
    x = LEFT + at
    picture.line((x, top), (x, bottom), tone="bad-line", dashed=True, width=2)
    picture.text(x, bottom + 13, text, size=11, anchor="middle", tone="bad-line")


def draw_routing() -> Picture:
    """An exchange beside RabbitMQ, from bench/routing.json."""
    measured: Routing = json.loads((BENCH / "routing.json").read_text())
    rates = measured["rates"]
    most = max(max(each) for each in rates.values())
    picture = Picture(
        900,
        100 + 46 * len(rates),
        "A topic exchange beside RabbitMQ",
        "Messages a second until the last copy is readable. "
        + " ".join(
            f"{name}: {median(each):,.0f} ({min(each):,.0f} to {max(each):,.0f})."
            for name, each in rates.items()
        ),
    )
    picture.text(24, 34, "A topic exchange with ten bindings", size=18, bold=True)
    picture.text(
        24,
        58,
        "Messages a second until the last copy is readable; the line is the spread of the rounds.",
        tone="quiet",
    )
    for index, (name, each) in enumerate(rates.items()):
        y = 84 + 46 * index
        scale = LONGEST / most
        picture.text(LEFT - 14, y + 17, name, anchor="end")
        picture.bar(LEFT, y, median(each) * scale, 24, "good-line" if "pykbroker" in name else "plugin-line")
        picture.line((LEFT + min(each) * scale, y + 30), (LEFT + max(each) * scale, y + 30), width=2)
        picture.text(LEFT + max(each) * scale + 10, y + 17, f"{median(each):,.0f}", size=12.5)
    return picture
