"""Random messages, made from their declarations; and all declared messages."""

from __future__ import annotations

import importlib
import pkgutil
from random import Random
from typing import Any

import pykbroker.protocol.messages
from pykbroker.errors import ErrorCode
from pykbroker.protocol.schema import Field, Message, Struct

WIDTHS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
CODES = [int(code) for code in ErrorCode]
TEXTS = ["", "a", "topic-1", "grüße", "日本", "x" * 126, "y" * 127, "z" * 128, "\U0001f600", "w" * 3000]
"""Lengths on both sides of the one-byte varint."""


def all_messages() -> list[type[Message]]:
    """Every message class of pykbroker.protocol.messages."""
    found: list[type[Message]] = []
    for module in pkgutil.iter_modules(pykbroker.protocol.messages.__path__):
        namespace = vars(importlib.import_module(f"pykbroker.protocol.messages.{module.name}"))
        found += [
            value
            for value in namespace.values()
            if isinstance(value, type) and issubclass(value, Message) and value is not Message
        ]
    return found


def versions(message: type[Message]) -> range:
    """All declared versions."""
    low, high = message.message_versions
    return range(low, high + 1)


def cases() -> list[Any]:
    """(message, version) for each pair, as pytest parameters with readable ids."""
    import pytest

    return [
        pytest.param(message, version, id=f"{message.__name__}-{version}")
        for message in all_messages()
        for version in versions(message)
    ]


def random_struct(cls: type[Struct], version: int, rng: Random, size: int = 3) -> Any:
    """An instance with random values in the fields that ``version`` carries, arrays up to ``size`` long."""
    return cls(**{f.name: _value(f, version, rng, size) for f in cls.fields if f.present(version)})


def _value(field: Field, version: int, rng: Random, size: int) -> Any:
    if field.can_be_null(version) and rng.random() < 0.25:
        return None
    if field.tagged(version) and rng.random() < 0.4:
        return field.fresh_default()
    if field.kind == "array":
        return [_element(field, version, rng, size) for _ in range(rng.randint(0, size))]
    if field.kind == "struct":
        assert field.struct is not None
        return random_struct(field.struct(), version, rng, size)
    return _scalar(field.kind, field.name, rng)


def _element(field: Field, version: int, rng: Random, size: int) -> Any:
    if field.struct is not None:
        return random_struct(field.struct(), version, rng, max(1, size - 1))
    assert field.element is not None
    return _scalar(field.element, field.name, rng)


def _scalar(kind: str, name: str, rng: Random) -> Any:
    if kind in WIDTHS:
        if name.endswith("error_code"):
            return rng.choice(CODES)
        if name.endswith("_ms"):
            return rng.randint(0, 2**31 - 1)
        half = 1 << (WIDTHS[kind] - 1)
        return rng.choice([0, -1, 1, half - 1, -half, rng.randint(-half, half - 1)])
    if kind == "uint16":
        return rng.choice([0, 0xFFFF, rng.randint(0, 0xFFFF)])
    if kind == "float64":
        return rng.choice([0.0, -1.5, rng.random()])
    if kind == "bool":
        return rng.random() < 0.5
    if kind == "string":
        return rng.choice(TEXTS)
    if kind == "uuid":
        return rng.randbytes(16)
    return rng.randbytes(rng.choice([0, 1, 126, 127, 128, 300]))
