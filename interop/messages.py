"""Kafka messages as plain values, encoded and decoded by kio's generated classes.

Probes want to write ``{"name": "t", "partitions": [0]}`` and read ``answer.topics[0].error_code == 3``; kio
wants typed entities with durations and dates. This module stands between them, for any API and version that
kio knows:

* in requests, a missing field takes kio's default, else zero, the empty string, the empty array or null;
* durations and timestamps are milliseconds in both directions, errors are plain integers.

The same classes generate nobody's broker here, so an answer that decodes is evidence that the broker encoded
it right."""

import datetime
import importlib
import io
import types
import typing
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any

ZERO_UUID = uuid.UUID(int=0)

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)


class Answer:
    """One decoded entity: attributes by Kafka's field names in snake case, values as described in the
    module."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:  # only reached for what is not there: keeps typing honest
        raise AttributeError(f"no field {name!r} in {self!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(repr(self))

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __repr__(self) -> str:
        return f"Answer({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


def api_name(api_key: int) -> str:
    """kio's snake-case name of an API key. Raises KeyError for a key that Kafka does not have."""
    return importlib.import_module("kio.index").api_key_map[api_key]  # type: ignore[no-any-return]


@cache
def message_type(api: str, version: int, kind: str) -> Any:
    """kio's class for ``kind`` ("request" or "response") of an API. Raises ImportError for an unknown
    version."""
    module = importlib.import_module(f"kio.schema.{api}.v{version}.{kind}")
    wanted = f"{api}_{kind}".replace("_", "").lower()
    return next(value for name, value in vars(module).items() if name.lower() == wanted)


def is_flexible(api: str, version: int) -> bool:
    """Whether this version of an API uses compact encodings and tagged fields (and so request header 2)."""
    return bool(message_type(api, version, "request").__flexible__)


def has_tagged_response_header(api: str, version: int) -> bool:
    """Whether the answer's header ends with tagged fields: flexible versions of everything but
    ApiVersions."""
    return api != "api_versions" and is_flexible(api, version)


def encode_entity(entity_type: Any, values: Mapping[str, Any]) -> bytes:
    """The bytes of one entity. Raises TypeError for a value whose field does not exist."""
    serial = importlib.import_module("kio.serial")
    buffer = io.BytesIO()
    serial.entity_writer(entity_type)(buffer, _build(entity_type, values))
    return buffer.getvalue()


def decode_entity(entity_type: Any, data: bytes) -> Answer:
    """One entity, which must fill ``data`` to its end. Raises ValueError when bytes are left over."""
    serial = importlib.import_module("kio.serial")
    entity, size = serial.entity_reader(entity_type)(data, 0)
    if size != len(data):
        raise ValueError(f"{len(data) - size} bytes behind {entity_type.__name__}")
    answer = _plain(entity)
    assert isinstance(answer, Answer)
    return answer


def encode_request(api: str, version: int, values: Mapping[str, Any]) -> bytes:
    """The body (no header) of a request."""
    return encode_entity(message_type(api, version, "request"), values)


def decode_response(api: str, version: int, body: bytes) -> Answer:
    """The body (no header) of an answer."""
    return decode_entity(message_type(api, version, "response"), body)


@cache
def _hints(entity_type: Any) -> dict[str, Any]:
    return typing.get_type_hints(entity_type)


def _build(entity_type: Any, values: Mapping[str, Any]) -> Any:
    unknown = set(values) - {field.name for field in fields(entity_type)}
    if unknown:
        raise TypeError(f"{entity_type.__name__} v{entity_type.__version__} has no {sorted(unknown)}")
    built = {}
    for field in fields(entity_type):
        hint, kafka_type = _hints(entity_type)[field.name], field.metadata.get("kafka_type")
        if field.name in values:
            built[field.name] = _typed(hint, kafka_type, values[field.name])
        elif field.default is MISSING and field.default_factory is MISSING:
            built[field.name] = _zero(hint, kafka_type)
    return entity_type(**built)


def _typed(hint: Any, kafka_type: str | None, value: Any) -> Any:
    if value is None:
        return None
    hint = _without_none(hint)
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_typed(item, kafka_type, entry) for entry in value)
    if is_dataclass(hint):
        return _build(hint, value)
    if kafka_type is not None and kafka_type.startswith("timedelta"):
        return value * _MILLISECOND
    if kafka_type == "datetime_i64":
        return _EPOCH + value * _MILLISECOND
    return value


def _zero(hint: Any, kafka_type: str | None) -> Any:
    if _without_none(hint) is not hint:
        return None
    if typing.get_origin(hint) is tuple:
        return ()
    if is_dataclass(hint):
        return _build(hint, {})
    if kafka_type is not None and kafka_type.startswith("timedelta"):
        return datetime.timedelta(0)
    zeros: dict[str | None, Any] = {
        "string": "",
        "bytes": b"",
        "records": b"",
        "bool": False,
        "uuid": ZERO_UUID,
    }
    return zeros.get(kafka_type, 0)


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(option for option in typing.get_args(hint) if option is not type(None))
    return hint


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return Answer({field.name: _plain(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, datetime.timedelta):
        return value // _MILLISECOND
    if isinstance(value, datetime.datetime):
        return (value - _EPOCH) // _MILLISECOND
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return int(value)
