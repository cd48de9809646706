"""Names from clients in log lines."""

from __future__ import annotations

LIMIT = 200
"""Characters shown; a name or a reason may have 32767."""


def shown(text: str | None) -> str:
    """``text`` for one line of a log: cut, and with what does not print escaped."""
    if text is None:
        return "none"
    cut = text[:LIMIT]
    return cut if cut.isprintable() else ascii(cut)
