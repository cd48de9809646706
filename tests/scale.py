"""How much of a long test runs: a small count by default, the stated size with ``PYKBROKER_FULL=1``.

What such a test leaves to chance follows from a seed: its own, or that of ``PYKBROKER_SEED``.
"""

from __future__ import annotations

import os
import random

FULL = os.environ.get("PYKBROKER_FULL", "") not in ("", "0")
"""Whether the stated sizes are asked for (``tox -e full``)."""


def scaled(small: int, full: int) -> int:
    """``small`` in an ordinary run, ``full`` in ``tox -e full``."""
    return full if FULL else small


def seeded(own: int) -> random.Random:
    """The chance of one test; says its seed, which pytest shows where the test fails."""
    seed = int(os.environ.get("PYKBROKER_SEED") or own)
    print(f"once more: PYKBROKER_SEED={seed}")
    return random.Random(seed)
