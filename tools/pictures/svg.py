"""Drawing SVG by hand: boxes, texts and arrows that look alike, in light and in dark.

Colours are roles (``ink``, ``quiet``, ``user``, ...), not values: the picture has its own background and
follows the reader's colour scheme.  Fonts are generic, so how wide a text will be is reckoned with a wide
font (DejaVu); every text and box is remembered, and :meth:`Picture.problems` says what would overlap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Final, Literal

from tools.pictures.measuring import width_of, wrapped

Anchor = Literal["start", "middle", "end"]

_LIGHT: Final = {
    "page": "#ffffff",
    "ink": "#0f172a",
    "quiet": "#526077",
    "line": "#64748b",
    "rule": "#d5dce6",
    "plain": "#f1f5f9",
    "user": "#dbeafe",
    "user-line": "#2563eb",
    "good": "#d1fae5",
    "good-line": "#047857",
    "bad": "#fee2e2",
    "bad-line": "#b91c1c",
    "plugin": "#ede9fe",
    "plugin-line": "#6d28d9",
    "hidden": "#f8fafc",
    "hidden-line": "#a3b0c2",
}
_DARK: Final = {
    "page": "#0f1720",
    "ink": "#e8edf4",
    "quiet": "#a3b1c4",
    "line": "#8896aa",
    "rule": "#2c3a4b",
    "plain": "#1b2735",
    "user": "#17305c",
    "user-line": "#7fb0ff",
    "good": "#0d3b2e",
    "good-line": "#4ade9f",
    "bad": "#4a1a1f",
    "bad-line": "#fb8585",
    "plugin": "#33235f",
    "plugin-line": "#b79cff",
    "hidden": "#141e29",
    "hidden-line": "#52627a",
}


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle, and what is in it."""

    left: float
    top: float
    right: float
    bottom: float
    what: str

    def overlaps(self, other: Area) -> bool:
        """Whether the two share more than an edge."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return across > 0.5 and down > 0.5

    def holds(self, other: Area) -> bool:
        """Whether ``other`` lies within."""
        return (
            self.left <= other.left + 0.5
            and self.top <= other.top + 0.5
            and other.right <= self.right + 0.5
            and other.bottom <= self.bottom + 0.5
        )


@dataclass(slots=True)
class Picture:
    """One picture, drawn from back to front.  ``title`` and ``described`` are what is read aloud."""

    width: int
    height: int
    title: str
    described: str
    texts: list[Area] = field(default_factory=list)
    boxes: list[Area] = field(default_factory=list)
    lines: list[Area] = field(default_factory=list)
    _parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 13,
        anchor: Anchor = "start",
        tone: str = "ink",
        mono: bool = False,
        bold: bool = False,
        halo: bool = False,
    ) -> None:
        """One line of text; ``y`` is its base line.  With a ``halo`` it may stand on a rule of a chart."""
        width = width_of(text, size, mono=mono, bold=bold)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        self.texts.append(Area(left, y - 0.78 * size, left + width, y + 0.22 * size, text))
        names = " ".join(
            ["t", f"f-{tone}", *(["m"] if mono else []), *(["b"] if bold else []), *(["h"] if halo else [])]
        )
        place = f'x="{x:g}" y="{y:g}" font-size="{size:g}"'
        ends = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._parts.append(f'<text class="{names}" {place}{ends}>{escape(text)}</text>')

    def paragraph(
        self, x: float, y: float, text: str, width: float, *, size: float = 13, tone: str = "quiet"
    ) -> float:
        """Lines of text below each other, the first on ``y``; the base line that would be the next."""
        for line in wrapped(text, width, size):
            self.text(x, y, line, size=size, tone=tone)
            y += round(size * 1.4)
        return y

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        tone: str = "plain",
        outline: str | None = None,
        dashed: bool = False,
        frame: bool = False,
        radius: float = 6,
    ) -> None:
        """A box.  A ``frame`` is one that others lie in."""
        if not frame:
            self.boxes.append(Area(x, y, x + width, y + height, f"box at {x:g}, {y:g}"))
        border = f"s-{outline or ('line' if tone == 'plain' else tone + '-line')}"
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<rect class="f-{tone} {border}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
            f'rx="{radius:g}"{dash}/>'
        )

    def label(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        lines: list[tuple[str, str]],
        *,
        tone: str = "plain",
        dashed: bool = False,
        size: float = 13,
    ) -> None:
        """A box with centred lines; each is a text and its style: ``name``, ``head`` or ``quiet``."""
        self.box(x, y, width, height, tone=tone, dashed=dashed)
        step = round(size * 1.35)
        base = y + height / 2 - step * (len(lines) - 1) / 2 + size * 0.36
        for index, (text, style) in enumerate(lines):
            self.text(
                x + width / 2,
                base + index * step,
                text,
                size=size if style != "quiet" else size - 1.5,
                anchor="middle",
                tone="quiet" if style == "quiet" else "ink",
                mono=style == "name",
                bold=style == "head",
            )

    def bar(self, x: float, y: float, width: float, height: float, tone: str) -> None:
        """A filled bar of a chart."""
        place = f'x="{x:.1f}" y="{y:g}" width="{max(width, 1):.1f}" height="{height:g}"'
        self._parts.append(f'<rect class="f-{tone}" {place} rx="2"/>')

    def dot(self, x: float, y: float, radius: float, tone: str, *, hollow: bool = False) -> None:
        """A mark on a line."""
        fill = "f-page" if hollow else f"f-{tone}"
        self._parts.append(
            f'<circle class="{fill} s-{tone}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" stroke-width="1.5"/>'
        )

    def line(
        self,
        *points: tuple[float, float],
        tone: str = "line",
        arrow: bool = False,
        dashed: bool = False,
        width: float = 1.4,
    ) -> None:
        """A line through ``points``, with its corners rounded; an ``arrow`` has a head at the end.  What has
        the tone ``rule`` is the background of a chart."""
        if tone != "rule":
            self.lines += [
                Area(min(ax, bx), min(ay, by), max(ax, bx), max(ay, by), "line")
                for (ax, ay), (bx, by) in pairwise(points)
            ]
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        shape = _rounded([*points[:-1], _before(points[-2], points[-1], 6)] if arrow else list(points))
        self._parts.append(f'<path class="n s-{tone}" d="{shape}" stroke-width="{width:g}"{dash}/>')
        if arrow:
            self._parts.append(f'<path class="f-{tone}" d="{_head(points[-2], points[-1])}"/>')

    def problems(self) -> list[str]:
        """What would be ugly: texts over each other, out of the picture, over an edge or a line."""
        found = []
        page = Area(0, 0, self.width, self.height, "picture")
        for index, text in enumerate(self.texts):
            if not page.holds(text):
                found.append(f"{text.what!r} runs out of the picture")
            found += [f"{text.what!r} and {b.what!r}" for b in self.texts[index + 1 :] if text.overlaps(b)]
            found += [
                f"{text.what!r} crosses the edge of the {box.what}"
                for box in self.boxes
                if text.overlaps(box) and not box.holds(text)
            ]
            found += [
                f"a line runs through {text.what!r}"
                for line in self.lines
                if line.left < text.right - 0.5
                and text.left + 0.5 < line.right + 0.01
                and line.top < text.bottom - 0.5
                and text.top + 0.5 < line.bottom + 0.01
            ]
        for index, box in enumerate(self.boxes):
            found += [f"{box.what} and {b.what}" for b in self.boxes[index + 1 :] if box.overlaps(b)]
        return found

    def svg(self) -> str:
        """The file."""
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
                f'width="{self.width}" height="{self.height}" role="img" aria-labelledby="title desc">',
                f'<title id="title">{escape(self.title)}</title>',
                f'<desc id="desc">{escape(self.described)}</desc>',
                "<!-- generated: python -m tools.pictures -->",
                f"<style>{_style()}</style>",
                f'<rect class="f-page s-rule" x="0.5" y="0.5" width="{self.width - 1}" '
                f'height="{self.height - 1}" rx="8"/>',
                *self._parts,
                "</svg>",
                "",
            ]
        )


def _style() -> str:
    texts = ".t{font-family:system-ui,sans-serif}.m{font-family:ui-monospace,monospace}.b{font-weight:600}"
    texts += ".h{paint-order:stroke;stroke-width:5px;stroke-linejoin:round}"
    return f"{texts}.n{{fill:none}}{_rules(_LIGHT)}@media (prefers-color-scheme:dark){{{_rules(_DARK)}}}"


def _rules(palette: dict[str, str]) -> str:
    return "".join(
        f".f-{name}{{fill:{value}}}.s-{name}{{stroke:{value}}}" for name, value in palette.items()
    ) + (f".h{{stroke:{palette['page']}}}")


def _before(start: tuple[float, float], end: tuple[float, float], by: float) -> tuple[float, float]:
    """The point ``by`` pixels before ``end`` on the way from ``start``."""
    (ax, ay), (bx, by_) = start, end
    length = max(((bx - ax) ** 2 + (by_ - ay) ** 2) ** 0.5, 0.001)
    return bx - (bx - ax) / length * by, by_ - (by_ - ay) / length * by


def _head(start: tuple[float, float], end: tuple[float, float]) -> str:
    (bx, by), (cx, cy) = end, _before(start, end, 9)
    aside = ((by - cy) * 0.45, (cx - bx) * 0.45)
    return (
        f"M{bx:.1f} {by:.1f}L{cx + aside[0]:.1f} {cy + aside[1]:.1f}L{cx - aside[0]:.1f} {cy - aside[1]:.1f}Z"
    )


def _rounded(points: list[tuple[float, float]], radius: float = 8) -> str:
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        enter, leave = _before(before, corner, radius), _before(after, corner, radius)
        parts.append(
            f"L{enter[0]:.1f} {enter[1]:.1f}Q{corner[0]:g} {corner[1]:g} {leave[0]:.1f} {leave[1]:.1f}"
        )
    return "".join([*parts, f"L{points[-1][0]:.1f} {points[-1][1]:.1f}"])
