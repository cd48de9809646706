"""All plugins of one broker: see :class:`Plugins`."""

from __future__ import annotations

import inspect
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar, cast

from pykbroker.clock import SystemClock
from pykbroker.components import BROKER, GROUP, TOPIC, BuildContext, Component, ComponentKind, Settings
from pykbroker.config import BrokerConfig, ConfigError
from pykbroker.config.setting import Setting, Value
from pykbroker.plugins import registry
from pykbroker.plugins.containment import ComponentFault, Faults, Guard
from pykbroker.plugins.loading import Loaded, Loader
from pykbroker.plugins.registry import ComponentUnavailable, PluginInfo, Problem, Registered
from pykbroker.plugins.watchdog import Watchdog

log = logging.getLogger(__name__)

T = TypeVar("T")

_NONE: Mapping[str, str] = MappingProxyType({})
PROTECTED = frozenset({("partitioner", "default")})
"""Components that cannot be blocked, beside all exchange types of pykbroker's own."""


class Plugins:
    """What plugins offer to one broker (or one command).

    ``config`` is the broker's config with the settings that plugins declare checked; the broker goes
    on with that one, and tells :meth:`reconfigure` when it changes.
    """

    def __init__(self, config: BrokerConfig, time_ms: Callable[[], int]) -> None:
        self.config = config
        self._time_ms = time_ms
        self._faults = Faults(Watchdog(), config.pykbroker_plugin_timeout_ms / 1000)
        self._loader = Loader(config, self._faults)
        self._components = self._loader.components
        self._built: dict[tuple[str, str, str | None, str | None], tuple[Settings, object]] = {}

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
        plugins = cls(config, SystemClock().time_ms if time_ms is None else time_ms)
        plugins._loader.load(extra, directory)
        every = [entry for kind in plugins._components.values() for entry in kind.values()]
        plugins.config = config.with_extensions(registry.extensions(every))
        return plugins

    @classmethod
    def none(cls) -> Plugins:
        """No plugin at all, for what is tested without any."""
        return cls(BrokerConfig(), SystemClock().time_ms)

    # What rooms above ask for

    @property
    def problems(self) -> Sequence[Problem]:
        """What was left out at start, and why; logged already."""
        return self._loader.problems

    def components(self, kind: ComponentKind[T]) -> Mapping[str, Component[T]]:
        """The components of a kind, by name."""
        found = {name: entry.component for name, entry in self._components[kind.name].items()}
        return cast("Mapping[str, Component[T]]", found)  # registered by the hook of this kind

    def build(
        self,
        kind: ComponentKind[T],
        name: str,
        *,
        topic: str | None = None,
        group: str | None = None,
        overrides: Mapping[str, str] = _NONE,
    ) -> T:
        """The object of component ``name`` for ``topic`` (and ``group``, where it is for one) whose own
        settings are ``overrides`` (others in it are ignored); made once per set of values.

        Raises :class:`~pykbroker.plugins.ComponentUnavailable` (a KafkaError, POLICY_VIOLATION).
        """
        entry = self._components[kind.name].get(name)
        if entry is None:
            where = f"topic {topic} needs" if topic is not None else "somebody asked for"
            raise ComponentUnavailable(f"{where} the {kind} {name!r}, which no plugin here offers")
        settings = self._settings(entry, overrides)
        place = (kind.name, name, topic, group)
        known = self._built.get(place)
        if known is None or known[0] != settings:
            known = self._built[place] = (settings, self._make(entry, topic, group, settings))
        made = known[1]
        if isinstance(made, _Failure):
            raise ComponentUnavailable(made.message)
        return cast("T", made)  # its factory is registered for this kind, its methods are checked

    def guard(self, kind: ComponentKind[T], name: str, topic: str | None = None) -> Guard:
        """What calls the methods of that component; keep it beside the object."""
        entry = self._components[kind.name].get(name)
        return self._guard("?" if entry is None else entry.plugin, f"{kind} {name}", topic)

    def listeners(self, hook: str) -> Callable[[object], None] | None:
        """What calls all implementations of an event hook, or None where there are none.

        Look it up once.  It never raises.
        """
        calls = [(guard, fn) for guard, fn in self._implementations(hook)]
        if not calls:
            return None

        def tell(event: object) -> None:
            for guard, fn in calls:
                try:
                    result = guard.call(fn, event)
                except ComponentFault:
                    continue  # logged and counted; the others hear of it all the same
                if inspect.iscoroutine(result):
                    result.close()
                    guard.fault(f"{hook} returned a coroutine, and this hook may not wait", event)

        return tell

    async def notify(self, hook: str, event: object, *, limit_s: float | None = None) -> None:
        """Call all implementations of an event hook that may wait, one after the other.

        Each is cancelled after ``limit_s``, or after ``pykbroker.plugin.timeout.ms``.
        """
        for guard, fn in self._implementations(hook):
            try:
                await guard.wait(fn, event, limit_s=limit_s)
            except ComponentFault:
                continue  # logged and counted

    def infos(self) -> Sequence[PluginInfo]:
        """The registered plugins, in the order of their loading."""
        return [self._info(loaded) for loaded in self._loader.plugins.values()]

    def settings(self, kind: ComponentKind[T], name: str, overrides: Mapping[str, str] = _NONE) -> Settings:
        """The effective settings of a component, for what it is given beside its object.

        Raises KeyError for no such component, ComponentUnavailable for malformed ``overrides``.
        """
        return self._settings(self._components[kind.name][name], overrides)

    def faults(self) -> Mapping[tuple[str, str], int]:
        """How often plugins have failed, by plugin and component or hook."""
        return dict(self._faults.counts)

    def reconfigure(self, config: BrokerConfig) -> None:
        """The broker's settings are these from now on.  What was built stays with its users; a
        :meth:`build` makes it again if its settings are others."""
        self.config = config

    def forget(self, topic: str) -> None:
        """Let go of what was built for a topic that is gone."""
        for place in [place for place in self._built if place[2] == topic]:
            del self._built[place]

    def close(self) -> None:
        """End the watchdog and forget all built objects."""
        self._faults.watchdog.close()
        self._built.clear()

    # Building

    def _settings(self, entry: Registered, overrides: Mapping[str, str]) -> Settings:
        values: dict[str, Value] = {}
        for declared in entry.component.settings:
            row = entry.rows[declared.key]
            values[declared.key] = self._value(row, declared.scopes, overrides)
        return Settings(values)

    def _value(self, row: Setting, scopes: frozenset[str], overrides: Mapping[str, str]) -> Value:
        text = overrides.get(row.name) if scopes & {TOPIC, GROUP} else None
        if text is not None:
            try:
                return row.parse(text)
            except ConfigError as error:
                raise ComponentUnavailable(str(error)) from None
        return self.config.plugin_value(row) if BROKER in scopes else row.default

    def _make(self, entry: Registered, topic: str | None, group: str | None, settings: Settings) -> object:
        """What the factory makes; a failure is remembered like an object, so that it is told once."""
        name = entry.component.name
        guard = self._guard(entry.plugin, f"{entry.kind} {name}", topic)
        ctx = BuildContext(
            component=name,
            topic=topic,
            settings=settings,
            time_ms=self._time_ms,
            random=random.Random(),
            group=group,
        )
        try:
            made = guard.call(entry.component.factory, ctx)
            for method in entry.kind.methods:
                if not callable(getattr(made, method, None)):
                    raise guard.fault(f"the factory made a {type(made).__name__}, which has no {method}()")
        except ComponentFault as fault:
            return _Failure(f"the {entry.kind} {name!r} cannot be made: {fault}")
        return made

    def _guard(self, plugin: str, what: str, topic: str | None = None) -> Guard:
        return Guard(self._faults, plugin, what, topic)

    def _implementations(self, hook: str) -> Iterator[tuple[Guard, Callable[[object], object]]]:
        """Guards and functions in the order of the calls."""
        for implementation in reversed(getattr(self._loader.manager.hook, hook).get_hookimpls()):
            function: Callable[..., object] = implementation.function
            wants = implementation.argnames
            call: Callable[[object], object] = function if wants else partial(_without_argument, function)
            yield self._guard(implementation.plugin_name, hook), call

    def _info(self, loaded: Loaded) -> PluginInfo:
        found = loaded.found
        mine = [
            entry
            for kind in self._components.values()
            for entry in kind.values()
            if entry.plugin == found.name
        ]
        return PluginInfo(
            name=found.name,
            version=found.version or str(getattr(loaded.plugin, "__version__", "")),
            origin=found.origin,
            hooks=tuple(loaded.hooks),
            components=tuple((entry.kind.name, entry.component.name) for entry in mine),
            settings=tuple(
                {
                    entry.rows[declared.key].name: declared
                    for entry in mine
                    for declared in entry.component.settings
                }.items()
            ),
        )


class _Failure:
    """In place of an object that could not be made."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = message


def _without_argument(function: Callable[[], object], _: object) -> object:
    return function()
