"""What plugins add to the settings: rows of their own, and the names that may be given where a topic
names a component.

A config says nothing about them until the plugins are loaded; then
:meth:`~pykbroker.config.BrokerConfig.with_extensions` puts them into it, and they are checked and
described like all others.  What was given for a plugin that is no longer there stays as it is, so that
everything is as before when the plugin is back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pykbroker.config.setting import ConfigError, Kind, Setting, unknown

PREFIX = "pykbroker.plugin."
"""A component's setting is this, the component's name, a dot, and the setting's key."""

_OUR_OWN = PREFIX + "timeout.ms"
RESERVED = frozenset({"timeout"})
"""Names that no component may have: the broker's own settings begin like theirs would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """The settings that plugins declare, by full name and scope.

    ``names``: for a topic setting that names components (``pykbroker.partitioner``), those that exist.
    """

    broker: Mapping[str, Setting] = field(default_factory=dict)
    topic: Mapping[str, Setting] = field(default_factory=dict)
    group: Mapping[str, Setting] = field(default_factory=dict)
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)


NOTHING = Extensions()


def is_plugin_setting(name: str) -> bool:
    """Whether ``name`` is in the name space of plugins' settings."""
    return name.startswith(PREFIX) and name != _OUR_OWN


def component_of(name: str) -> str:
    """The component that a plugin's setting belongs to."""
    return name.removeprefix(PREFIX).partition(".")[0]


def missing_row(name: str) -> Setting:
    """How a setting is described whose plugin is not there."""
    return Setting(
        name=name,
        field=name,
        kind=Kind.STRING,
        default=None,
        doc=f"A setting of {component_of(name)}, which no plugin offers now.",
    )


def check_values(
    rows: Mapping[str, Setting], values: Mapping[str, str], before: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Check plugins' settings among ``values``; those that stay as they were are not looked at.

    Raises :class:`ConfigError`.
    """
    for name, text in values.items():
        if is_plugin_setting(name) and before.get(name) != text:
            row = rows.get(name)
            if row is None:
                raise unknown(name, text, rows)
            row.parse(text)


def check_names(
    names: Mapping[str, frozenset[str]], values: Mapping[str, str], before: Mapping[str, str]
) -> None:
    """Check that the components which ``values`` newly name exist.  Raises :class:`ConfigError`."""
    for setting, known in names.items():
        old = set(split(before.get(setting, "")))
        for name in split(values.get(setting, "")):
            if name not in known and name not in old:
                have = ", ".join(sorted(known)) or "none"
                raise ConfigError(setting, values[setting], f"no plugin offers {name!r}; there are: {have}")


def split(text: str) -> Iterator[str]:
    """The names in a setting that names one component or a list of them."""
    return (part.strip() for part in text.split(",") if part.strip())


def respelled(rows: Mapping[str, Setting], values: Mapping[str, str]) -> dict[str, str]:
    """``values`` with plugins' settings under their exact names.

    An environment variable cannot say ``-`` or tell ``.`` from ``_``: where no setting has a name, the
    one that differs from it in nothing else is meant.
    """
    loose = {_loose(name): name for name in rows}
    exact: dict[str, str] = {}
    for name, text in values.items():
        meant = name if name in rows or not is_plugin_setting(name) else loose.get(_loose(name), name)
        if meant == name or meant not in values:
            exact[meant] = text
    return exact


def _loose(name: str) -> str:
    return re.sub(r"[-._]", ".", name.lower())
