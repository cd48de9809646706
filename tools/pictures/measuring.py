"""How wide a text may become, whatever font shows it: as wide as in DejaVu, which is a wide one."""

from __future__ import annotations

from typing import Final

_WIDTHS: Final = (
    "32 40 46 84 64 95 78 27 39 39 50 84 32 36 32 34 64 64 64 64 64 64 64 64 64 64 34 34 84 84 84 53 "
    "100 68 69 70 77 63 58 77 75 29 29 66 56 86 75 79 60 79 69 63 61 73 68 99 69 61 69 39 34 39 84 50 "
    "50 61 63 55 63 62 35 63 63 28 28 58 28 97 63 61 63 63 41 52 39 63 59 82 59 59 52 64 34 64 84"
)
"""Of the characters from space to tilde in DejaVu Sans, in hundredths of the size."""

_WIDTH_OF: Final = {chr(32 + index): int(width) for index, width in enumerate(_WIDTHS.split())}
_BOLD: Final = 1.13
_MONO: Final = 0.603


def width_of(text: str, size: float, *, mono: bool = False, bold: bool = False) -> float:
    """How wide ``text`` may become, in pixels."""
    if mono:
        return len(text) * _MONO * size
    return sum(_WIDTH_OF.get(each, 84) for each in text) / 100 * size * (_BOLD if bold else 1.0)


def wrapped(text: str, width: float, size: float, *, mono: bool = False) -> list[str]:
    """``text`` in lines of at most ``width`` pixels, cut between words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if width_of(longer, size, mono=mono) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
