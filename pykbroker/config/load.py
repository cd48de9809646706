"""Where the broker's settings come from: file, environment, command line, in rising precedence.

Everything becomes text under Kafka's name first, so that a value is read in one way wherever it was
written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path


def gather(file: Path | None, env: Mapping[str, str], sets: Iterable[str]) -> dict[str, str]:
    """All settings given, checked, as text by name; raises ConfigError naming where a bad one was."""
    raise NotImplementedError
