"""Plugins and components as they are registered, and everything that may be wrong with them."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pluggy import PluginManager

from pykbroker.components import API, BROKER, GROUP, KINDS, TOPIC, Component, ComponentKind, PluginSetting
from pykbroker.config.extensions import PREFIX, RESERVED, Extensions
from pykbroker.config.setting import Setting
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.hookspecs import MAY_WAIT, PROJECT

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_KEY = re.compile(r"[a-z0-9]+(?:\.[a-z0-9]+)*")
_SCOPES = frozenset({BROKER, TOPIC, GROUP})


class ComponentUnavailable(KafkaError):
    """A component that a topic names is not there, or cannot be made; POLICY_VIOLATION."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.POLICY_VIOLATION, message)


class Unfit(Exception):
    """A plugin or component cannot be taken; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A plugin or component that was left out, and why; ``kind`` says what kind of component, if one."""

    plugin: str
    origin: str
    message: str
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One plugin as ``pykbroker plugins`` lists it.  ``components`` are (kind, name)."""

    name: str
    version: str
    origin: str
    hooks: Sequence[str]
    components: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, PluginSetting]]


@dataclass(frozen=True, slots=True)
class Registered:
    """A component and the plugin that offers it."""

    plugin: str
    kind: ComponentKind[object]
    component: Component[object]
    rows: Mapping[str, Setting] = field(repr=False)
    """Its settings by key."""


def hooks_of(manager: PluginManager, plugin: object) -> list[str]:
    """The hooks that ``plugin`` implements; raises :class:`Unfit` if it is no plugin of ours.

    Checked before pluggy registers it, so that nothing is half registered.
    """
    hooks: list[str] = []
    marked = (name for name in dir(plugin) if manager.parse_hookimpl_opts(plugin, name) is not None)
    for name in marked:
        _check_hook(manager, plugin, name)
        hooks.append(name)
    if not hooks:
        raise Unfit("it has no function that is marked with pykbroker.hookimpl")
    return hooks


def _check_hook(manager: PluginManager, plugin: object, name: str) -> None:
    options = manager.parse_hookimpl_opts(plugin, name)
    assert options is not None
    known = sorted(vars(manager.hook))
    caller = getattr(manager.hook, name, None)
    if caller is None or options.get("specname"):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise Unfit(f"there is no hook {options.get('specname') or name}{hint}")
    if options.get("wrapper") or options.get("hookwrapper"):
        raise Unfit(f"{name} is a wrapper, and hooks here have none")
    function = getattr(plugin, name)
    if inspect.iscoroutinefunction(function) and name not in MAY_WAIT:
        raise Unfit(f"{name} is async, and this hook may not wait")
    offered = caller.spec.argnames
    for argument in inspect.signature(function).parameters:
        if argument not in offered:
            raise Unfit(f"{name} wants {argument!r}, and is given {', '.join(offered) or 'nothing'}")


def registered(
    plugin: str, kind: ComponentKind[object], component: object, taken: Mapping[str, Registered]
) -> Registered:
    """What goes into the registry for ``component``; raises :class:`Unfit`.

    ``taken`` are the components of its kind so far.
    """
    if not isinstance(component, Component):
        raise Unfit(f"{kind.hook} must return a list of Component, not of {type(component).__name__}")
    name: object = component.name  # as it came: who wrote it may not use a type checker
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in RESERVED:
        raise Unfit(f"{name!r} is no name for a component: letters, digits, - and _ (and not 'timeout')")
    if name in kind.no_component:
        raise Unfit(f"{name!r} in {kind.setting} says that there is no {kind}")
    if component.api != API:
        raise Unfit(f"{kind} {name!r} is written for api {component.api}, this version has api {API}")
    if not callable(component.factory):
        raise Unfit(f"the factory of {kind} {name!r} cannot be called")
    if name in taken:
        raise Unfit(f"{kind} {name!r} is offered by plugin {taken[name].plugin} already")
    return Registered(plugin, kind, component, {row.field: row for row in _rows(name, component.settings)})


def _rows(name: str, settings: Sequence[PluginSetting]) -> Iterator[Setting]:
    for declared in settings:
        if not isinstance(declared, PluginSetting) or not _KEY.fullmatch(declared.key):
            raise Unfit(f"{name!r} declares a setting that is none: {declared!r}")
        if not declared.scopes or not declared.scopes <= _SCOPES:
            raise Unfit(f"{name!r}: setting {declared.key} has scopes {sorted(declared.scopes)}")
        row = Setting(
            name=f"{PREFIX}{name}.{declared.key}",
            field=declared.key,
            kind=declared.kind,
            default=declared.default,
            doc=" ".join(declared.doc.split()),
            minimum=declared.minimum,
            maximum=declared.maximum,
            choices=tuple(declared.choices),
            dynamic=True,
        )
        text = row.render(row.default)
        try:
            fits = text is None or row.parse(text) == row.default
        except ValueError:
            fits = False
        if not fits:
            raise Unfit(
                f"{name!r}: the default of {declared.key}, {declared.default!r}, is not {row.allowed}"
            )
        yield row


def extensions(components: Collection[Registered]) -> Extensions:
    """What these components add to the settings."""
    scoped: dict[str, dict[str, Setting]] = {BROKER: {}, TOPIC: {}, GROUP: {}}
    names: dict[str, set[str]] = {
        kind.setting: set(kind.no_component) for kind in KINDS if kind.setting is not None
    }
    for entry in components:
        if entry.kind.setting is not None:
            names[entry.kind.setting].add(entry.component.name)
        for declared in entry.component.settings:
            row = entry.rows[declared.key]
            for scope in declared.scopes:
                scoped[scope][row.name] = row
    return Extensions(
        broker=scoped[BROKER],
        topic=scoped[TOPIC],
        group=scoped[GROUP],
        names={setting: frozenset(known) for setting, known in names.items()},
    )


def new_manager() -> PluginManager:
    """A pluggy manager that knows our hooks and no plugin."""
    from pykbroker import hookspecs

    manager = PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager
