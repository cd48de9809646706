"""Plugins and components as they are registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pykbroker.errors import ErrorCode, KafkaError


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One plugin as ``pykbroker plugins`` lists it.  ``components`` are (kind, name)."""

    name: str
    version: str
    origin: str
    hooks: Sequence[str]
    components: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Problem:
    """A plugin or component that was left out, and why."""

    plugin: str
    message: str


class ComponentUnavailable(KafkaError):
    """A component that a topic names is not there, or cannot be made; POLICY_VIOLATION."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.POLICY_VIOLATION, message)
