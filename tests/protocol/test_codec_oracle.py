"""Every message in every version, byte for byte as kio writes it, and back.

kio is generated from Kafka's own schemas; it is imported only here.
"""

from __future__ import annotations

import dataclasses
import io
import re
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, get_args, get_type_hints
from uuid import UUID

import pytest

from pykbroker.protocol.codec import decode, encode
from pykbroker.protocol.schema import ZERO_UUID, Message
from tests.protocol.instances import all_messages, cases, random_struct, versions

kio_index = pytest.importorskip("kio.index")
kio_serial = pytest.importorskip("kio.serial")

INSTANCES = 6
DECLARED_ONLY = ("OffsetCommitKey", "OffsetCommitValue", "GroupMetadataKey", "GroupMetadataValue")
"""Records of __consumer_offsets: kio has no classes for them."""

ORACLE_CASES = [case for case in cases() if case.values[0].__name__ not in DECLARED_ONLY]


def kio_class(message: type[Message], version: int) -> Any:
    """kio's class of the same message."""
    load = (
        kio_index.load_request_schema
        if message.__name__.endswith("Request")
        else kio_index.load_response_schema
    )
    return load(message.message_key, version)


def to_kio(ours: Any, theirs: Any) -> Any:
    """``ours`` as an instance of kio's class ``theirs``."""
    hints = get_type_hints(theirs)
    values = {}
    for field in dataclasses.fields(theirs):
        name = field.name if hasattr(ours, field.name) else f"{field.name}_ms"
        values[field.name] = _convert(getattr(ours, name), field, hints[field.name])
    return theirs(**values)


def _convert(value: Any, field: Any, hint: Any) -> Any:
    if isinstance(value, list):
        (element,) = {inner for inner in _tuples(hint) if inner is not Ellipsis}
        return tuple(_element(item, element) for item in value)
    kind = field.metadata.get("kafka_type")
    if value is None:
        return None
    if kind is None:
        struct = next(arg for arg in (hint, *get_args(hint)) if dataclasses.is_dataclass(arg))
        return to_kio(value, struct)
    if kind.startswith("timedelta"):
        return timedelta(milliseconds=value)
    if kind == "datetime_i64":
        return None if value < 0 else datetime.fromtimestamp(value / 1000, UTC)
    if kind == "error_code":
        from kio.schema.errors import ErrorCode

        return ErrorCode(value)
    if kind == "uuid":
        return None if value == ZERO_UUID else UUID(bytes=value)
    return value


def _tuples(hint: Any) -> tuple[Any, ...]:
    for candidate in (hint, *get_args(hint)):
        if getattr(candidate, "__origin__", None) is tuple:
            return get_args(candidate)
    raise AssertionError(f"no tuple in {hint}")


def _element(item: Any, hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return to_kio(item, hint)
    if isinstance(item, bytes) and len(item) == 16:
        return UUID(bytes=item)
    return item


def kio_bytes(message: Message, version: int) -> bytes:
    """What kio writes for ``message``."""
    theirs = kio_class(type(message), version)
    buffer = io.BytesIO()
    kio_serial.entity_writer(theirs)(buffer, to_kio(message, theirs))
    return buffer.getvalue()


@pytest.mark.parametrize(("message", "version"), ORACLE_CASES)
def test_same_bytes_as_kio_and_back(message: type[Message], version: int) -> None:
    rng = Random(f"{message.__name__}-{version}")
    for size in range(INSTANCES):
        ours = random_struct(message, version, rng, size=size % 4)
        expected = kio_bytes(ours, version)
        assert encode(ours, version) == expected
        assert decode(message, version, expected) == ours


@pytest.mark.parametrize("message", all_messages())
def test_defaults_are_kios(message: type[Message]) -> None:
    """A field that is left out when made has Kafka's default, in the versions that have one."""
    if message.__name__ in DECLARED_ONLY:
        pytest.skip("not in kio")
    for version in versions(message):
        theirs = kio_class(message, version)
        ours = message()
        for field in dataclasses.fields(theirs):
            if field.default is dataclasses.MISSING:
                continue
            name = field.name if hasattr(ours, field.name) else f"{field.name}_ms"
            mine = getattr(ours, name)
            if isinstance(mine, (int, str, bool)) and not dataclasses.is_dataclass(field.default):
                assert _plain(field.default) == mine, (version, name)


def _plain(default: Any) -> Any:
    if isinstance(default, timedelta):
        return round(default.total_seconds() * 1000)
    return default


@pytest.mark.parametrize("message", all_messages())
def test_declared_versions_are_kafkas(message: type[Message]) -> None:
    """Neither more nor fewer flexible versions than kio knows."""
    if message.__name__ in DECLARED_ONLY:
        pytest.skip("not in kio")
    for version in versions(message):
        theirs = kio_class(message, version)
        assert theirs.__flexible__ == (version >= message.flexible_since)
        assert re.sub("Re(quest|sponse)$", "", theirs.__name__) in message.__name__
