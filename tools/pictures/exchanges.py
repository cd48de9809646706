"""An exchange, its bindings and who gets a copy: answered by the exchange types themselves."""

from __future__ import annotations

from typing import Final

from pykbroker.catalog.exchange import ExchangeVersion
from pykbroker.components import Binding, RoutingContext
from pykbroker.config import BrokerConfig
from pykbroker.plugins import Plugins
from pykbroker.routing import RoutingTable
from pykbroker.routing.compiled import CompiledExchange, PluginCompiler
from tools.pictures.svg import Picture

EXCHANGES: Final = {
    "orders": ExchangeVersion(
        number=1,
        kind="topic",
        bindings=(Binding("eu", "eu.#"), Binding("audit", "#.created"), Binding("us", "us.*.*")),
        alternate="unmatched",
    ),
    "us": ExchangeVersion(number=1, kind="fanout", bindings=(Binding("us.billing"), Binding("us.stock"))),
    "unmatched": ExchangeVersion(number=1, kind="fanout", bindings=(Binding("rest"),)),
}
"""The exchanges of the picture."""

KEYS: Final = ("eu.berlin.created", "us.boston.created", "us.austin.paid", "asia.tokyo.paid")
"""The routing keys of the records in it."""

ROWS: Final = {"eu": 112, "audit": 168, "us.billing": 224, "us.stock": 280, "rest": 336}
"""Where each topic is, from the top."""


def routed() -> dict[str, list[str]]:
    """For each record the topics that get a copy, in the order of the picture."""
    plugins = Plugins.load(BrokerConfig())
    try:
        compiler = PluginCompiler(plugins)
        table = RoutingTable(
            {name: CompiledExchange(name, each, compiler, {}) for name, each in EXCHANGES.items()}
        )
        found = {
            key: table.route("orders", RoutingContext(exchange="orders", routing_key=key)) for key in KEYS
        }
    finally:
        plugins.close()
    return {key: [name for name in ROWS if name in where.targets] for key, where in found.items()}


def draw() -> Picture:
    """The picture."""
    copies = routed()
    picture = Picture(
        900,
        524,
        "An exchange, its bindings, and who gets a copy",
        "The exchange orders, of type topic, is bound to the topics eu and audit and to the exchange us; "
        "what nothing matches goes to its alternate, the exchange unmatched. "
        + " ".join(f"{key} is copied to {', '.join(names)}." for key, names in copies.items()),
    )
    picture.text(24, 34, "An exchange copies records to topics", size=18, bold=True)
    picture.text(
        24,
        58,
        "Violet: exchanges. Blue: topics that consumers read. On the lines: binding keys.",
        tone="quiet",
    )
    _sources(picture)
    _targets(picture)
    _copies(picture, copies)
    return picture


def _kind(name: str) -> str:
    kind = EXCHANGES[name].kind
    assert kind is not None
    return kind


def _key(exchange: str, to: str) -> str:
    return next(binding.key for binding in EXCHANGES[exchange].bindings if binding.to == to)


def _sources(picture: Picture) -> None:
    picture.label(24, 204, 96, 44, [("producer", "head")], tone="good")
    picture.line((120, 226), (172, 226), arrow=True)
    picture.label(
        172, 194, 150, 64, [("orders", "name"), (f"type {_kind('orders')}", "quiet")], tone="plugin"
    )


def _targets(picture: Picture) -> None:
    for name, y in ROWS.items():
        picture.label(692, y - 20, 184, 40, [(name, "name")], tone="user")
    for name in ("eu", "audit"):
        picture.line((322, 226), (350, 226), (350, ROWS[name]), (692, ROWS[name]), arrow=True)
        picture.text(366, ROWS[name] - 8, _key("orders", name), mono=True, size=12)
    us = (ROWS["us.billing"] + ROWS["us.stock"]) / 2
    picture.line((322, 226), (350, 226), (350, us), (480, us), arrow=True)
    picture.text(366, us - 8, _key("orders", "us"), mono=True, size=12)
    picture.label(480, us - 26, 130, 52, [("us", "name"), (f"type {_kind('us')}", "quiet")], tone="plugin")
    for name in ("us.billing", "us.stock"):
        picture.line((610, us), (640, us), (640, ROWS[name]), (692, ROWS[name]), arrow=True)
    last = ROWS["rest"]
    picture.line((247, 258), (247, last), (480, last), arrow=True, dashed=True)
    picture.text(262, last - 8, "alternate: nothing matched", size=12, tone="quiet")
    picture.label(
        480,
        last - 26,
        130,
        52,
        [("unmatched", "name"), (f"type {_kind('unmatched')}", "quiet")],
        tone="plugin",
    )
    picture.line((610, last), (692, last), arrow=True)


def _copies(picture: Picture, copies: dict[str, list[str]]) -> None:
    picture.line((24, 382), (876, 382), tone="rule", width=1)
    picture.text(24, 408, "routing key of the record", size=12, tone="quiet")
    picture.text(270, 408, "one copy in each of", size=12, tone="quiet")
    for index, (key, names) in enumerate(copies.items()):
        y = 434 + 23 * index
        picture.text(24, y, key, mono=True)
        picture.text(270, y, ", ".join(names), mono=True)
