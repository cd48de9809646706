"""Seeded frames for every API key and version served: valid ones, and ways to break them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from struct import pack_into

from pykbroker.protocol.frames import encode_request
from pykbroker.protocol.schema import Field, Message, Struct

_RANGES = {"int8": 7, "int16": 15, "uint16": 15, "int32": 31, "int64": 63}
_NAMES = ("fuzz", "fuzz-2", "a.b", "", "é", "__consumer_offsets", "x" * 260)
_EXTREMES = (0, 1, -1, -2, 2**31 - 1, -(2**31), 65536)


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzFrame:
    """Bytes to send, and what was done to them; ``whole`` is whether the length prefix is true."""

    data: bytes
    key: int
    version: int
    correlation: int
    mutation: str
    whole: bool = True


def random_struct(kind: type[Struct], version: int, rng: random.Random, depth: int = 0) -> Struct:
    """A message with random values in every field that ``version`` carries."""
    values = {
        field.name: _value(field, version, rng, depth) for field in kind.fields if field.present(version)
    }
    return kind(**values)


def _value(field: Field, version: int, rng: random.Random, depth: int) -> object:
    if field.can_be_null(version) and rng.random() < 0.2:
        return None
    if field.kind == "struct":
        assert field.struct is not None
        return random_struct(field.struct(), version, rng, depth + 1)
    if field.kind == "array":
        count = rng.choice((0, 1, 1, 2, 3)) if depth < 3 else 1
        if field.struct is not None:
            return [random_struct(field.struct(), version, rng, depth + 1) for _ in range(count)]
        assert field.element is not None
        return [_scalar(field.element, rng) for _ in range(count)]
    return _scalar(field.kind, rng)


def _scalar(kind: str, rng: random.Random) -> object:
    if kind in _RANGES:
        top = 2 ** _RANGES[kind]
        small = rng.random() < 0.7
        return rng.choice((0, 1, -1, 2, 5, 100)) if small else rng.randrange(-top, top)
    if kind == "bool":
        return rng.random() < 0.5
    if kind == "float64":
        return rng.random()
    if kind == "string":
        return rng.choice(_NAMES)
    if kind == "uuid":
        return rng.choice((bytes(16), rng.randbytes(16)))
    return rng.choice((b"", rng.randbytes(rng.randrange(200)), bytes(70)))


def _flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        data[rng.randrange(4, len(data))] ^= 1 << rng.randrange(8)


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(4, len(data)) :]


def _extend(data: bytearray, rng: random.Random) -> None:
    data += rng.randbytes(rng.choice((1, 7, 300)))


def _extreme_number(data: bytearray, rng: random.Random) -> None:
    if len(data) >= 16:
        pack_into(">i", data, rng.randrange(12, len(data) - 3), rng.choice(_EXTREMES))


def _garbage_body(data: bytearray, rng: random.Random) -> None:
    data[12:] = rng.randbytes(rng.choice((0, 1, 20, 2000)))


def _huge_varints(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(8, len(data))
    data[at : at + 5] = b"\xff\xff\xff\xff\x07"


_MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bits, _flip_bits, _cut, _extend, _extreme_number, _extreme_number, _garbage_body, _huge_varints,
)  # fmt: skip


def fuzz_frame(request: type[Message], version: int, correlation: int, rng: random.Random) -> FuzzFrame:
    """One frame of ``request`` in ``version``: random values, then usually a mutation."""
    message = random_struct(request, version, rng)
    assert isinstance(message, Message)
    data = bytearray(encode_request(message, version, correlation, rng.choice((None, "fuzzer", "é"))))
    name, whole = "none", True
    if rng.random() < 0.85:
        mutate = rng.choice(_MUTATIONS)
        mutate(data, rng)
        name = mutate.__name__.strip("_")
    pack_into(">i", data, 0, len(data) - 4)
    if rng.random() < 0.03:  # a length that lies
        lie = rng.choice((-1, -(2**31), 0, 3, 2**31 - 1, 104_857_601, len(data) + 100, len(data) - 5))
        pack_into(">i", data, 0, lie)
        name, whole = f"length {lie}", False
    return FuzzFrame(
        data=bytes(data), key=request.message_key, version=version, correlation=correlation, mutation=name,
        whole=whole,
    )  # fmt: skip
