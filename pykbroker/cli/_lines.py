"""Records as lines: what ``pykbroker produce`` reads and ``pykbroker consume`` prints.

A line of JSON holds one record; what is no UTF-8 is under ``key_base64``, ``value_base64``.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from pykbroker.cli._letter_text import bytes_cell, cell

if TYPE_CHECKING:
    from pykbroker.records.build import RecordData
    from pykbroker.records.decode import Record


class NoRecord(ValueError):
    """A line is no record; says why."""


def of_json(line: bytes) -> RecordData:
    """The key, value and headers of a line of JSON; where and when the record was is not looked at.

    Raises :class:`NoRecord`.
    """
    from pykbroker.records.build import RecordData

    try:
        found: object = json.loads(line)
    except ValueError as error:
        raise NoRecord(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise NoRecord('no JSON object, as {"key": "k", "value": "v", "headers": []} is')
    said = cast(Mapping[str, object], found)
    headers = said.get("headers") or []
    if not isinstance(headers, list):
        raise NoRecord('headers: no list, as [{"name": "n", "value": "v"}] is')
    return RecordData(
        key=_bytes(said, "key"), value=_bytes(said, "value"), headers=[_header(each) for each in headers]
    )


def _header(found: object) -> tuple[str, bytes | None]:
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        raise NoRecord('headers: each is an object, as {"name": "n", "value": "v"} is')
    said = cast(Mapping[str, object], found)
    return str(said["name"]), _bytes(said, "value")


def _bytes(said: Mapping[str, object], name: str) -> bytes | None:
    coded = said.get(f"{name}_base64")
    if isinstance(coded, str):
        try:
            return base64.b64decode(coded, validate=True)
        except binascii.Error as error:
            raise NoRecord(f"{name}_base64: {error}") from None
    found = said.get(name)
    if found is not None and not isinstance(found, str):
        raise NoRecord(f"{name}: must be text or null, it is {json.dumps(found)}; JSON in it is text, too")
    return None if found is None else found.encode("utf-8", "surrogatepass")


def as_json(topic: str, partition: int, record: Record) -> str:
    """A record as one line of JSON."""
    said = {
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        **_json_bytes("key", record.key),
        **_json_bytes("value", record.value),
        "headers": [{"name": name, **_json_bytes("value", value)} for name, value in record.headers],
    }
    return json.dumps(said)


def _json_bytes(name: str, data: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if data is None else data.decode()}
    except UnicodeDecodeError:
        assert data is not None
        return {f"{name}_base64": base64.b64encode(data).decode()}


def write(data: bytes) -> None:
    """Write ``data`` to standard output, all of it or raise OSError: what was printed may be committed.

    Where Python does not buffer (PYTHONUNBUFFERED), one write may take only a part.
    """
    if sys.stdout is None:  # closed by the shell
        return
    sys.stdout.flush()
    rest = memoryview(data)
    while rest:
        rest = rest[sys.stdout.buffer.write(rest) or 0 :]
    sys.stdout.buffer.flush()


def as_row(topic: str, partition: int, record: Record) -> str:
    """A record as one line for people: where it is, when, key, value and headers, cut where they are long."""
    place = f"{topic}/{partition}/{record.offset}"
    headers = " ".join(f"{cell(name)}={bytes_cell(value) or ''}" for name, value in record.headers)
    key = bytes_cell(record.key)
    columns = [
        place.ljust(24),
        _moment(record.timestamp),
        (key or "-").ljust(12),
        bytes_cell(record.value) or "-",
    ]
    return "  ".join([*columns, headers]).rstrip()


def _moment(ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return str(ms)
