"""Settings as tests write them, Python values, turned into the texts that a broker reads."""

from __future__ import annotations


def setting_text(value: object) -> str:
    """A setting's value as the command line takes it: ``True`` is ``true``, a list is joined by commas."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(str(item) for item in value)
    return str(value)
