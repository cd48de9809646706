"""Every picture of docs/img, and what draws it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tools.pictures import charts, exchanges, failures, overview, paths, policies, rooms
from tools.pictures.svg import Picture

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "docs" / "img"

PICTURES: Final[Mapping[str, Callable[[], Picture]]] = {
    "overview": overview.draw,
    "rooms": rooms.draw,
    "produce-and-fetch": paths.draw,
    "failed-deliveries": failures.draw,
    "retry-policies": policies.draw,
    "exchanges": exchanges.draw,
    "bench": charts.draw_bench,
    "bench-delivery": charts.draw_delivery,
    "bench-routing": charts.draw_routing,
}
"""By the name of the file, without ``.svg``."""
