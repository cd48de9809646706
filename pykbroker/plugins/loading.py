"""Loading: from what is found to what is registered.  Whatever is wrong with a plugin is told once, in
the log and in :attr:`Loader.problems`, and costs that plugin or component only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pykbroker.components import KINDS, PARTITIONER, Component, ComponentKind
from pykbroker.config import BrokerConfig, ConfigError
from pykbroker.plugins import discovery, registry
from pykbroker.plugins.containment import ComponentFault, Faults, Guard
from pykbroker.plugins.discovery import Found
from pykbroker.plugins.registry import Problem, Registered, Unfit

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plugin that is registered, and the hooks it implements."""

    found: Found
    plugin: object
    hooks: Sequence[str]


class Loader:
    """Loads the plugins of one broker; what it has found is read by :class:`~pykbroker.plugins.Plugins`."""

    def __init__(self, config: BrokerConfig, faults: Faults) -> None:
        self.manager = registry.new_manager()
        self.plugins: dict[str, Loaded] = {}
        self.components: dict[str, dict[str, Registered]] = {kind.name: {} for kind in KINDS}
        """By kind, then by name."""
        self.problems: list[Problem] = []
        self._faults = faults
        self._off = config.pykbroker_plugins == "off"
        self._blocked = frozenset(config.pykbroker_plugins_block)

    def load(self, extra: Sequence[object], directory: Path | None) -> None:
        """Find and register everything.  Raises ConfigError for blocking what cannot be blocked, and
        LookupError for what was named and does not exist."""
        for name in discovery.UNBLOCKABLE:
            self._refuse_to_block(name)
        for found in list(self._sources(extra, directory)):
            self._take(found)
        for loaded in self.plugins.values():
            for kind in KINDS:
                if kind.hook in loaded.hooks:
                    for component in self._offered(loaded, kind):
                        self._add(loaded.found, kind, component)

    def _sources(self, extra: Sequence[object], directory: Path | None) -> Iterator[Found]:
        if self._off:
            log.info("plugins are off: only %s are loaded", ", ".join(discovery.UNBLOCKABLE))
            yield from (found for found in discovery.first_party() if found.name in discovery.UNBLOCKABLE)
            return
        yield from discovery.first_party()
        yield from discovery.installed()
        if directory is not None:
            yield from discovery.in_directory(directory)
        for what in extra:
            yield discovery.named(what)

    def _take(self, found: Found) -> None:
        """Import and register one plugin, or say why not."""
        if found.name in self._blocked:
            log.info("plugin blocked: plugin=%s from=%s", found.name, found.origin)
            return
        if found.name in self.plugins:
            first = self.plugins[found.name].found
            self._problem(found, f"there is a plugin of this name already, from {first.origin}")
            return
        plugin = self._imported(found)
        if plugin is None:
            return
        try:
            hooks = registry.hooks_of(self.manager, plugin)
            self.manager.register(plugin, found.name)
        except Unfit as unfit:
            self._problem(found, str(unfit))
        except ValueError:
            log.debug("plugin named twice: plugin=%s from=%s", found.name, found.origin)
        else:
            self.plugins[found.name] = Loaded(found, plugin, hooks)
            log.debug("plugin loaded: plugin=%s from=%s", found.name, found.origin)

    def _imported(self, found: Found) -> object | None:
        try:
            plugin = found.load()
            # A class is made into an object of this broker's own: it may keep state.
            return plugin() if isinstance(plugin, type) else plugin
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the boundary to plugins' code
            self._problem(found, f"it cannot be imported: {type(error).__name__}: {error}", error)
            return None

    def _problem(self, found: Found, why: str, error: BaseException | None = None, kind: str = "") -> None:
        self.problems.append(Problem(found.name, found.origin, why, kind))
        log.error("plugin left out: plugin=%s from=%s: %s", found.name, found.origin, why, exc_info=error)

    def _offered(self, loaded: Loaded, kind: ComponentKind[object]) -> Sequence[object]:
        found = loaded.found
        function: Callable[[], Iterable[object] | None] = getattr(loaded.plugin, kind.hook)
        try:
            return Guard(self._faults, found.name, kind.hook).call(lambda _: _listed(kind, function()), None)
        except ComponentFault as fault:
            self.problems.append(Problem(found.name, found.origin, str(fault), kind.name))
            return ()

    def _add(self, found: Found, kind: ComponentKind[object], component: object) -> None:
        taken = self.components[kind.name]
        try:
            entry = registry.registered(found.name, kind, component, taken)
            self._check_rows(entry)
        except Unfit as unfit:
            self._problem(found, f"(one component of it) {unfit}", kind=kind.name)
            return
        name = entry.component.name
        if name in self._blocked:
            ours = found.origin == discovery.OURS
            if ours and (found.name == "exchanges" or (kind is PARTITIONER and name == "default")):
                self._refuse_to_block(name)
            log.info("component blocked: %s=%s plugin=%s", kind, name, found.name)
            return
        taken[name] = entry

    def _check_rows(self, entry: Registered) -> None:
        """Components of different kinds may share a name; then they share the settings too."""
        for others in self.components.values():
            same = others.get(entry.component.name)
            if same is not None:
                for key in entry.rows.keys() & same.rows.keys():
                    if same.rows[key] != entry.rows[key]:
                        raise Unfit(f"plugin {same.plugin} declares {entry.rows[key].name} differently")

    def _refuse_to_block(self, name: str) -> None:
        if name in self._blocked:
            raise ConfigError(
                "pykbroker.plugins.block",
                ",".join(sorted(self._blocked)),
                f"{name} cannot be blocked: topics could not be what they are",
            )


def _listed(kind: ComponentKind[object], offered: Iterable[object] | None) -> list[object]:
    if isinstance(offered, Component):
        raise TypeError(f"{kind.hook} must return a list of Component, not one")
    return [] if offered is None else list(offered)
