"""The routing key of a record."""

from __future__ import annotations

import pytest

from pykbroker.components import Headers
from pykbroker.routing.keys import routing_key_of


@pytest.mark.parametrize(
    ("key", "headers", "expected"),
    [
        (b"k", (), "k"),
        (None, (), ""),
        (b"k", (("routing-key", b"a.b"),), "a.b"),
        (b"k", (("Routing-Key", b"a.b"),), "k"),
        (b"k", (("routing-key", b"first"), ("other", b"x"), ("routing-key", b"last")), "last"),
        (b"k", (("routing-key", None),), ""),
        ("ü.ß".encode(), (), "ü.ß"),
    ],
)
def test_header_else_key(key: bytes | None, headers: Headers, expected: str) -> None:
    assert routing_key_of(key, headers) == expected


def test_bytes_that_are_no_text_are_a_key_that_nothing_names() -> None:
    found = routing_key_of(b"\xff.b")
    assert found.endswith(".b")
    assert found.encode("utf-8", "surrogateescape") == b"\xff.b"
    assert routing_key_of(b"\xfe.b") != found
