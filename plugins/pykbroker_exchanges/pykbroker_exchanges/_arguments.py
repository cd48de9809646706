"""What several types say about arguments."""

from __future__ import annotations

from pykbroker import Binding


def refuse_arguments(kind: str, binding: Binding) -> None:
    """Raise ValueError if ``binding`` has arguments, which a type of this name does not look at."""
    for name in binding.arguments:
        raise ValueError(f"a {kind} exchange takes no arguments: {name!r}")
