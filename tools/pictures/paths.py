"""The path of a produced batch and of a fetch, with the modules that they pass."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tools.pictures.measuring import wrapped
from tools.pictures.svg import Picture

PACKAGE: Final = Path(__file__).parents[2] / "pykbroker"

PRODUCE: Final = (
    ("server/driver", "received into one buffer; framing cuts it into requests"),
    ("server/dispatch", "header, API, request; the records stay a slice of the buffer"),
    ("apis/produce", "each partition: do we lead it?"),
    (
        "records/validate",
        "lengths, CRC, each record's length; then the topic's interceptors, validators",
    ),
    ("partitions/partition", "producer's sequence; base offset and epoch written into the buffer"),
    ("log/log", "one write to the segment, sparse indexes"),
    ("partitions/acknowledging", "the high watermark moves, after a flush where the topic asks for one"),
    ("server/connection", "the answer leaves, in the order of requests"),
)
"""The modules that a produce passes, and what happens there."""

FETCH: Final = (
    ("server/driver", "as on the left: buffer, frame, request"),
    ("apis/fetch", "which partitions the session means"),
    ("log/indexes", "offset to position in the segment"),
    ("log/serving", "whole batches up to the limits, never beyond the high watermark"),
    (
        "server/waiting",
        "not enough: parked until an append wakes it or its time is over, then read again",
    ),
    ("server/sending", "small answers copied, large ones straight from the file (sendfile)"),
)
"""The same for a fetch."""

COLUMN: Final = 316
TOP: Final = 96
GAP: Final = 14


def draw() -> Picture:
    """The picture."""
    for module, _ in (*PRODUCE, *FETCH):
        assert (PACKAGE / f"{module}.py").exists(), f"there is no module {module}"
    produce, fetch = _layout(PRODUCE, 0), _layout(FETCH, 22)
    bottom = max(produce[-1][1] + produce[-1][2], fetch[-1][1] + fetch[-1][2])
    picture = Picture(
        900,
        bottom + 28,
        "The path of a produced batch and of a fetch",
        "Produce: " + _told(PRODUCE) + " Fetch: " + _told(FETCH),
    )
    picture.text(24, 34, "The path of a produced batch, and of a fetch", size=18, bold=True)
    picture.text(24, 58, "One thread. Violet: where a request may wait.", tone="quiet")
    picture.text(24, 84, "Produce", bold=True)
    picture.text(560, 84, "Fetch", bold=True)
    _column(picture, 24, PRODUCE, produce)
    _column(picture, 560, FETCH, fetch)
    _middle(picture, produce, fetch)
    return picture


def _told(steps: tuple[tuple[str, str], ...]) -> str:
    return "; ".join(f"{module}: {what}" for module, what in steps) + "."


def _layout(steps: tuple[tuple[str, str], ...], extra: int) -> list[tuple[int, int, int]]:
    """Of each step: its number, top and height."""
    found, y = [], TOP
    for number, (_, what) in enumerate(steps, 1):
        height = 34 + 16 * len(wrapped(what, COLUMN - 28, 12))
        found.append((number, y, height))
        y += height + GAP + extra
    return found


def _column(
    picture: Picture, x: int, steps: tuple[tuple[str, str], ...], places: list[tuple[int, int, int]]
) -> None:
    for (module, what), (number, y, height) in zip(steps, places, strict=True):
        if number > 1:
            _, above, tall = places[number - 2]
            picture.line((x + COLUMN / 2, above + tall), (x + COLUMN / 2, y), arrow=True)
        parked = module in ("server/waiting", "partitions/acknowledging")
        picture.box(x, y, COLUMN, height, tone="plugin" if parked else "plain")
        picture.text(x + 14, y + 21, f"{number}  {module}", mono=True, size=12.5)
        picture.paragraph(x + 14, y + 38, what, COLUMN - 28, size=12)


def _middle(picture: Picture, produce: list[tuple[int, int, int]], fetch: list[tuple[int, int, int]]) -> None:
    """The log between the two, and who wakes whom."""
    left, right = 24 + COLUMN, 560
    write = produce[5][1] + produce[5][2] / 2
    read = fetch[3][1] + fetch[3][2] / 2
    park = fetch[4][1] + fetch[4][2] / 2
    middle = (left + right) / 2
    top = min(write, read) - 34
    height = max(write, read) + 34 - top
    picture.label(
        middle - 62,
        top,
        124,
        height,
        [("segment", "head"), ("0000….log", "name"), ("on disk", "quiet")],
        tone="user",
    )
    picture.line((left, write), (middle - 62, write), arrow=True)
    picture.line((middle + 62, read), (right, read), arrow=True)
    moved = produce[6][1] + produce[6][2] / 2
    picture.line(
        (left, moved), (530, moved), (530, park), (right, park), arrow=True, tone="plugin-line", dashed=True
    )
    picture.text(left + 12, moved + 20, "its move wakes who waits", size=12, tone="quiet")
    picture.line(
        (876, park), (888, park), (888, read), (876, read), arrow=True, tone="plugin-line", dashed=True
    )
