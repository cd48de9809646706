"""All plugins of one broker: see :class:`Plugins`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pykbroker.components import Component, ComponentKind
from pykbroker.config import BrokerConfig
from pykbroker.plugins.containment import Guard
from pykbroker.plugins.registry import PluginInfo, Problem

T = TypeVar("T")
E = TypeVar("E")

_NONE: Mapping[str, str] = {}


class Plugins:
    """What plugins offer to one broker (or one command).

    ``config`` is the broker's config with the settings that plugins declare checked; the broker goes
    on with that one.
    """

    config: BrokerConfig
    problems: Sequence[Problem]
    """What was left out at start, and why; logged already."""

    @classmethod
    def load(
        cls,
        config: BrokerConfig,
        *,
        extra: Sequence[object] = (),
        directory: Path | None = None,
        time_ms: Callable[[], int] | None = None,
    ) -> Plugins:
        """Find and register plugins: pykbroker's own, installed ones, those in ``directory``, then
        ``extra`` (module names, paths of files, or plugin objects).

        A plugin that fails is left out, with an error in the log.  Raises
        :class:`~pykbroker.config.ConfigError` for a malformed or unknown setting of a plugin, and for
        blocking what cannot be blocked, and LookupError for an ``extra`` that does not exist at all.
        """
        raise NotImplementedError

    def components(self, kind: ComponentKind[T]) -> Mapping[str, Component[T]]:
        """The components of a kind, by name."""
        raise NotImplementedError

    def build(
        self,
        kind: ComponentKind[T],
        name: str,
        *,
        topic: str | None = None,
        overrides: Mapping[str, str] = _NONE,
    ) -> T:
        """The object of component ``name`` for ``topic`` whose own settings are ``overrides`` (others in
        it are ignored); made once per set of values.

        Raises :class:`~pykbroker.plugins.ComponentUnavailable` (a KafkaError, POLICY_VIOLATION).
        """
        raise NotImplementedError

    def guard(self, kind: ComponentKind[T], name: str, topic: str | None = None) -> Guard:
        """What calls the methods of that component; keep it beside the object."""
        raise NotImplementedError

    def listeners(self, hook: str) -> Callable[[object], None] | None:
        """What calls all implementations of an event hook, or None where there are none.

        Look it up once.  It never raises.
        """
        raise NotImplementedError

    async def notify(self, hook: str, event: object) -> None:
        """Call all implementations of an event hook that may wait, one after the other."""
        raise NotImplementedError

    def infos(self) -> Sequence[PluginInfo]:
        """The registered plugins, in the order of their loading."""
        raise NotImplementedError

    def close(self) -> None:
        """End the watchdog and forget all built objects."""
        raise NotImplementedError
