"""Exchange types of pykbroker: ``fanout direct topic headers`` as in RabbitMQ, ``wildcard``,
``consistent-hash``."""

from __future__ import annotations

from collections.abc import Iterable

from pykbroker import Component, ExchangeType, hookimpl
from pykbroker_exchanges.consistent_hash import ConsistentHash
from pykbroker_exchanges.direct import Direct
from pykbroker_exchanges.fanout import Fanout
from pykbroker_exchanges.headers import HeadersExchange
from pykbroker_exchanges.topic import Topic
from pykbroker_exchanges.wildcard import Wildcard

__all__ = ["ConsistentHash", "Direct", "Fanout", "HeadersExchange", "Topic", "Wildcard"]


@hookimpl
def pykbroker_register_exchange_types() -> Iterable[Component[ExchangeType]]:
    """What topics may name in ``pykbroker.exchange.type``."""
    return [
        Component("fanout", lambda build: Fanout(), doc="Every binding matches."),
        Component("direct", lambda build: Direct(), doc="A binding matches the routing key that it names."),
        Component("topic", lambda build: Topic(), doc="Words between dots: `*` is one, `#` any number."),
        Component("headers", lambda build: HeadersExchange(), doc="Arguments are compared with headers."),
        Component("wildcard", lambda build: Wildcard(), doc="File name patterns on the routing key."),
        Component(
            "consistent-hash",
            lambda build: ConsistentHash(),
            doc="Each routing key goes to one of the bindings, by weight, and stays there.",
        ),
    ]
