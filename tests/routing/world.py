"""Exchanges for tests, on the exchange types that pykbroker ships and one that fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pykbroker.catalog.exchange import Boundaries, Exchange, ExchangeVersion
from pykbroker.catalog.image import Image, Topic
from pykbroker.components import Binding, Component, RoutingContext
from pykbroker.config import BrokerConfig
from pykbroker.hookspecs import hookimpl
from pykbroker.plugins import Plugins
from pykbroker.routing.compiled import PluginCompiler


class Broken:
    """An exchange type whose matcher fails for the key "raise" and answers nonsense for "nonsense"."""

    key_only = True

    def __init__(self) -> None:
        self._bindings: Sequence[Binding] = ()

    def validate(self, binding: Binding) -> None:
        if binding.key == "refuse":
            raise ValueError("this one is refused")

    def compile(self, bindings: Sequence[Binding]) -> Broken:
        made = Broken()
        made._bindings = tuple(bindings)
        if any(binding.key == "no matcher" for binding in bindings):
            raise RuntimeError("no matcher today")
        return made

    def match(self, ctx: RoutingContext) -> Sequence[Binding]:
        if ctx.routing_key == "raise":
            raise RuntimeError("on purpose")
        if ctx.routing_key == "nonsense":
            return [Binding("elsewhere")]
        return self._bindings


class BrokenPlugin:
    """The plugin that offers it."""

    @hookimpl
    def pykbroker_register_exchange_types(self) -> Sequence[Component[Broken]]:
        return [Component("broken", lambda build: Broken())]


@contextmanager
def plugins() -> Iterator[Plugins]:
    """Ours, and the broken one."""
    loaded = Plugins.load(BrokerConfig(), extra=[BrokenPlugin()])
    try:
        yield loaded
    finally:
        loaded.close()


@contextmanager
def compiler() -> Iterator[PluginCompiler]:
    with plugins() as loaded:
        yield PluginCompiler(loaded)


def version(
    kind: str | None,
    *bindings: Binding,
    number: int = 1,
    alternate: str | None = None,
    boundaries: Boundaries | None = None,
) -> ExchangeVersion:
    return ExchangeVersion(
        number=number, kind=kind, bindings=bindings, alternate=alternate, boundaries=boundaries or {}
    )


def image(exchanges: Mapping[str, ExchangeVersion | Sequence[ExchangeVersion]]) -> Image:
    """An image with these exchanges, each with a topic."""
    found = {
        name: Exchange(name=name, versions=(given,) if isinstance(given, ExchangeVersion) else tuple(given))
        for name, given in exchanges.items()
    }
    topics = {
        name: Topic(name=name, topic_id=name.encode().ljust(16, b"."), partitions=()) for name in exchanges
    }
    return Image(cluster_id="test", exchanges=found, topics=topics)


def record(key: str = "", *headers: tuple[str, bytes | None]) -> RoutingContext:
    return RoutingContext(exchange="entry", routing_key=key, headers=headers)
