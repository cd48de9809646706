"""What a setting is: name, type, default, what is allowed, and a text for people.

The classes of this package (:class:`~pykbroker.config.topic.TopicConfig` and its siblings) are frozen
dataclasses whose fields are declared with :func:`setting`.  A field's name is Kafka's name with dots
as underscores, so one declaration gives the typed attribute, the key in files, environment and
DescribeConfigs, the check of a value, and the row in the documentation.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar, cast

T = TypeVar("T")

Value = bool | int | float | str | tuple[str, ...] | frozenset[str] | None
"""What a setting may hold; lists are tuples, or frozensets where order means nothing."""

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1


class Kind(Enum):
    """Types of settings; the values are the type names that the documentation uses."""

    BOOLEAN = "boolean"
    STRING = "string"
    INT = "int"
    SHORT = "short"
    LONG = "long"
    DOUBLE = "double"
    LIST = "list"

    @property
    def wire(self) -> int:
        """The number that DescribeConfigs v3+ sends (KIP-569)."""
        return _WIRE[self]


_WIRE = {
    Kind.BOOLEAN: 1, Kind.STRING: 2, Kind.INT: 3, Kind.SHORT: 4, Kind.LONG: 5, Kind.DOUBLE: 6, Kind.LIST: 7,
}  # fmt: skip

_BOUNDS = {
    Kind.INT: (-(2**31), INT_MAX),
    Kind.SHORT: (-(2**15), 2**15 - 1),
    Kind.LONG: (-(2**63), LONG_MAX),
}


class ConfigError(ValueError):
    """A setting that is unknown or malformed; ``str()`` is one sentence for the user.

    ``origin`` says where it was found (a file and line, an environment variable, ``--set``), and is
    empty where the caller's context says it already (an AlterConfigs request).
    """

    def __init__(self, name: str, value: str | None, reason: str, *, origin: str = "") -> None:
        self.name = name
        self.value = value
        self.reason = reason
        self.origin = origin
        where = f" (from {origin})" if origin else ""
        super().__init__(f"setting {name}={value!r}{where}: {reason}")

    def from_(self, origin: str) -> ConfigError:
        """The same error, naming where the setting was found."""
        return ConfigError(self.name, self.value, self.reason, origin=origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of a table of settings.

    ``minimum`` and ``maximum`` bound numbers (inclusive), ``choices`` what a string or a list's
    elements may be, ``pattern`` what they must look like (``pattern_text`` says it in words).
    ``dynamic``: may be altered while the broker runs.  ``synonyms`` are the broker settings that give
    the default of a topic or group setting, in the order Kafka asks them, each with the factor that
    turns its unit into this setting's.  ``kafka_default`` is set where ours differs on purpose.
    ``fixed``: a topic has it from its creation, and keeps it.
    """

    name: str
    field: str
    kind: Kind
    default: Value
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    pattern_text: str = ""
    dynamic: bool = False
    synonyms: tuple[tuple[str, int], ...] = ()
    kafka_default: str | None = None
    unordered: bool = False
    fixed: bool = False

    @property
    def nullable(self) -> bool:
        """Whether "not set" is a value of its own (then another setting decides)."""
        return self.default is None

    @property
    def allowed(self) -> str:
        """What a value may be, as words for an error message or a table."""
        if self.kind is Kind.BOOLEAN:
            return "true or false"
        if self.choices:
            what = ", ".join(self.choices)
            return f"a comma-separated list of: {what}" if self.kind is Kind.LIST else f"one of: {what}"
        if self.pattern is not None:
            return self.pattern_text
        if self.kind is Kind.STRING:
            return "text"
        if self.kind is Kind.LIST:
            return "a comma-separated list"
        low, high = self._range()
        noun = "a number" if self.kind is Kind.DOUBLE else "an integer"
        return f"{noun} from {_number(low)} to {_number(high)}"

    def _range(self) -> tuple[float, float]:
        low, high = _BOUNDS.get(self.kind, (-float("inf"), float("inf")))
        return (
            low if self.minimum is None else self.minimum,
            high if self.maximum is None else self.maximum,
        )

    def parse(self, text: str) -> Value:
        """The value that ``text`` stands for, as Kafka would read it.

        Raises :class:`ConfigError` when it is not one of :attr:`allowed`.
        """
        text = text.strip()
        value = self._convert(text)
        if not self._fits(value):
            raise ConfigError(self.name, text, f"must be {self.allowed}")
        return value

    def _convert(self, text: str) -> Value:
        try:
            match self.kind:
                case Kind.BOOLEAN:
                    return _BOOLEANS[text.lower()]
                case Kind.INT | Kind.SHORT | Kind.LONG:
                    if not _INTEGER.fullmatch(text):
                        raise ValueError(text)
                    return int(text)
                case Kind.DOUBLE:
                    return float(text)
                case Kind.STRING:
                    return text
                case Kind.LIST:
                    parts = tuple(part for part in re.split(r"\s*,\s*", text) if part)
                    return frozenset(parts) if self.unordered else parts
        except (KeyError, ValueError):
            raise ConfigError(self.name, text, f"must be {self.allowed}") from None

    def _fits(self, value: Value) -> bool:
        if isinstance(value, bool):
            return True
        if isinstance(value, int | float):
            low, high = self._range()
            return low <= value <= high  # false for NaN
        parts: Collection[str] = (value,) if isinstance(value, str) else value or ()
        if self.choices and any(part not in self.choices for part in parts):
            return False
        return self.pattern is None or all(re.fullmatch(self.pattern, part) for part in parts)

    def render(self, value: Value) -> str | None:
        """The text that DescribeConfigs shows for ``value``; None for "not set"."""
        if value is None:
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, frozenset):
            return ",".join(sorted(value))
        if isinstance(value, tuple):
            return ",".join(value)
        return str(value)


_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_BOOLEANS = {"true": True, "false": False}


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def setting(
    kind: Kind,
    default: T,
    doc: str,
    *,
    name: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    pattern: str | None = None,
    pattern_text: str = "",
    dynamic: bool = False,
    synonyms: Iterable[str | tuple[str, int]] = (),
    kafka_default: str | None = None,
    fixed: bool = False,
) -> T:
    """Declare a field of a config class; the arguments are those of :class:`Setting`.

    ``name`` is given only where it is not the field's name with underscores as dots.
    """

    def build(field: str) -> Setting:
        return Setting(
            name=name or field.replace("_", "."),
            field=field,
            kind=kind,
            default=cast(Value, default),
            doc=" ".join(doc.split()),
            minimum=minimum,
            maximum=maximum,
            choices=choices,
            pattern=pattern,
            pattern_text=pattern_text,
            dynamic=dynamic,
            synonyms=tuple((s, 1) if isinstance(s, str) else s for s in synonyms),
            kafka_default=kafka_default,
            unordered=isinstance(default, frozenset),
            fixed=fixed,
        )

    # typed as the default itself, which is what an instance has: mypy checks it against the field
    return dataclasses.field(default=default, metadata={"setting": build})


_tables: dict[str, dict[str, Setting]] = {}


def settings_of(cls: type) -> dict[str, Setting]:
    """The table of a config class, by Kafka's name, in declaration order."""
    table = _tables.get(cls.__name__)
    if table is None:
        table = _tables[cls.__name__] = {}
        for field in dataclasses.fields(cls):
            build: Callable[[str], Setting] | None = field.metadata.get("setting")
            if build is not None:
                row = build(field.name)
                table[row.name] = row
    return table


def unknown(name: str, value: str | None, known: Iterable[str]) -> ConfigError:
    """The error for a name that nobody knows, with the nearest name that somebody does."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ConfigError(name, value, f"no setting has this name{hint}")
