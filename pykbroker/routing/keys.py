"""The routing key of a record."""

from __future__ import annotations

from pykbroker.components import Headers

ROUTING_KEY = "routing-key"
"""The record header that holds the routing key; where there is none, the record's key does."""


def routing_key_of(key: bytes | None, headers: Headers = ()) -> str:
    """The header ``routing-key`` as UTF-8 (the last one, as Kafka's ``lastHeader``), else the key, else "".

    Bytes that are no UTF-8 become lone surrogates, which no binding can contain: such a key matches
    patterns and never a name.
    """
    if headers:
        for name, value in reversed(headers):
            if name == ROUTING_KEY:
                return "" if value is None else value.decode("utf-8", "surrogateescape")
    return "" if key is None else key.decode("utf-8", "surrogateescape")
