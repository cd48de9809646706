"""Where the broker's settings come from: file, environment, command line, in rising precedence.

Everything becomes text under Kafka's name first, so that a value is read in one way wherever it was
written.
"""

from __future__ import annotations

import logging
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pykbroker.config import foreign
from pykbroker.config.broker import BrokerConfig
from pykbroker.config.extensions import PREFIX, is_plugin_setting
from pykbroker.config.setting import ConfigError, settings_of, unknown
from pykbroker.config.topic import TopicConfig

log = logging.getLogger(__name__)

VARIABLE_PREFIX = "PYKBROKER_"
OTHER_VARIABLES = frozenset(
    {
        "PYKBROKER_BOOTSTRAP",
        "PYKBROKER_FORMAT",
        "PYKBROKER_FULL",
        "PYKBROKER_INTEROP_KAFKA",
        "PYKBROKER_KAFKA_LIBS",
    }
)
"""Variables with our prefix that are no settings of the broker: the client commands' and the tests'."""

ALIASES = {"broker.id": "node.id", "log.dir": "log.dirs"}
"""Kafka's older names; the newer one wins where both are given."""


class Given(NamedTuple):
    """One setting as it was written, and where."""

    name: str
    text: str
    origin: str


def gather(file: Path | None, env: Mapping[str, str], sets: Iterable[str]) -> dict[str, str]:
    """All settings given, checked, as text by name; raises ConfigError naming where a bad one was."""
    found: dict[str, Given] = {}
    for source in (from_file(file) if file else (), from_environment(env), from_sets(sets)):
        level: dict[str, Given] = {}
        for given in source:
            name = canonical(given.name)
            if name not in level or given.name == name:
                level[name] = given
        found |= level
    _drop_controller_listeners(found)
    _check_protocols(found)
    _check_each(found)
    table = settings_of(BrokerConfig)
    ignored = sorted(name for name in found if name not in table and not is_plugin_setting(name))
    if ignored:
        log.warning(
            "settings that mean something to Apache Kafka and have no effect here: %s", ", ".join(ignored)
        )
    return {name: given.text for name, given in found.items() if name not in ignored}


def canonical(name: str) -> str:
    """The broker setting that ``name`` stands for.

    A topic setting's name is taken for the broker-wide default of it: ``flush.messages`` for
    ``log.flush.interval.messages``.
    """
    name = ALIASES.get(name, name)
    if name in settings_of(BrokerConfig):
        return name
    row = settings_of(TopicConfig).get(name)
    return row.synonyms[0][0] if row is not None and row.synonyms else name


def _check_each(found: Mapping[str, Given]) -> None:
    table = settings_of(BrokerConfig)
    for name, given in found.items():
        row = table.get(name)
        try:
            if row is not None:
                row.parse(given.text)
            elif not foreign.is_known(name) and not is_plugin_setting(name):  # checked with the plugins
                raise unknown(given.name, given.text, [*table, *settings_of(TopicConfig)])
        except ConfigError as error:
            raise error.from_(given.origin) from None


def _drop_controller_listeners(found: dict[str, Given]) -> None:
    """KRaft's controller listeners stand among ``listeners``; clients never talk to them."""
    names = found.get("controller.listener.names")
    if names is None:
        return
    controllers = {name.strip().upper() for name in names.text.split(",")}
    for key in ("listeners", "advertised.listeners"):
        if key in found:
            parts = [part.strip() for part in found[key].text.split(",")]
            kept = [part for part in parts if part.partition("://")[0].upper() not in controllers]
            found[key] = found[key]._replace(text=",".join(kept))


def _check_protocols(found: Mapping[str, Given]) -> None:
    """A listener that was meant to be encrypted must not silently be a plain one."""
    given = found.get("listener.security.protocol.map")
    if given is None or "listeners" not in found:
        return
    pairs = (part.partition(":") for part in given.text.upper().split(","))
    protocols = {name.strip(): protocol.strip() for name, _, protocol in pairs}
    for part in found["listeners"].text.split(","):
        name = part.strip().partition("://")[0].upper()
        if protocols.get(name, "PLAINTEXT") != "PLAINTEXT":
            raise ConfigError(
                "listeners",
                part.strip(),
                f"only plaintext listeners exist here yet, and {given.name} says {protocols[name]}",
                origin=found["listeners"].origin,
            )


def from_sets(sets: Iterable[str]) -> Iterator[Given]:
    """``KEY=VALUE`` texts of the command line."""
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(text, None, "must be KEY=VALUE", origin="--set")
        yield Given(name.strip(), value, "--set")


def from_environment(env: Mapping[str, str]) -> Iterator[Given]:
    """``PYKBROKER_NUM_PARTITIONS`` for ``num.partitions``, and so on."""
    names = {variable_of(name.removeprefix("pykbroker.")): name for name in _all_names()}
    names |= {variable_of(name): name for name in _all_names()}
    for variable, text in env.items():
        if variable.startswith(VARIABLE_PREFIX) and variable not in OTHER_VARIABLES:
            guess = variable.removeprefix(VARIABLE_PREFIX).lower().replace("_", ".")
            if guess.startswith("plugin."):
                guess = PREFIX + guess.removeprefix("plugin.")
            yield Given(names.get(variable, guess), text, f"environment variable {variable}")


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return VARIABLE_PREFIX + name.upper().replace(".", "_")


def _all_names() -> Iterator[str]:
    yield from foreign.NAMES
    yield from ALIASES
    yield from settings_of(TopicConfig)
    yield from settings_of(BrokerConfig)


def from_file(path: Path) -> Iterator[Given]:
    """The settings in a TOML file, or in a properties file as Apache Kafka's.

    The suffix decides; without a telling one, what parses as TOML is TOML.  Raises OSError.
    """
    data = path.read_bytes()
    if path.suffix != ".properties":
        try:
            return _from_toml(data.decode(), path)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            if path.suffix == ".toml":
                raise ConfigError(str(path), None, f"is not valid TOML: {error}") from error
    return _from_properties(data.decode("utf-8", "replace"), path)


def _from_toml(text: str, path: Path) -> Iterator[Given]:
    table = tomllib.loads(text)
    return _flatten(table, "", str(path))


def _flatten(table: Mapping[str, object], prefix: str, origin: str) -> Iterator[Given]:
    for key, value in table.items():
        name = prefix + key
        if isinstance(value, dict):
            yield from _flatten(value, f"{name}.", origin)
        else:
            yield Given(name, _toml_text(name, value, origin), origin)


def _toml_text(name: str, value: object, origin: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list):
        return ",".join(_toml_text(name, part, origin) for part in value)
    raise ConfigError(
        name, str(value), "must be a string, a number, true, false or a list of them", origin=origin
    )


_SEPARATOR = re.compile(r"(?<!\\)(?:\s*[=:]\s*|\s+)")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def _from_properties(text: str, path: Path) -> Iterator[Given]:
    for number, line in _logical_lines(text):
        parts = _SEPARATOR.split(line, maxsplit=1)
        value = parts[1] if len(parts) == 2 else ""
        yield Given(_unescape(parts[0]), _unescape(value), f"{path} line {number}")


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, those that end in a backslash joined with the next; numbered from 1."""
    begun, held = 0, ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.lstrip()
        if not held and (not line or line[0] in "#!"):
            continue
        begun = begun if held else number
        if (len(line) - len(line.rstrip("\\"))) % 2:
            held += line[:-1]
        else:
            yield begun, held + line
            held = ""
    if held:
        yield begun, held


def _unescape(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) == 5 else _CONTROLS.get(code, code)

    return _ESCAPE.sub(character, text)
