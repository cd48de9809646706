"""How much of a long test runs: a small count by default, the stated size with ``PYKBROKER_FULL=1``."""

from __future__ import annotations

import os

FULL = os.environ.get("PYKBROKER_FULL", "") not in ("", "0")
"""Whether the stated sizes are asked for (``tox -e full``)."""


def scaled(small: int, full: int) -> int:
    """``small`` in an ordinary run, ``full`` in ``tox -e full``."""
    return full if FULL else small
