"""One version of one exchange, made ready for matching."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pykbroker.catalog.exchange import ExchangeVersion
from pykbroker.components import EXCHANGE_TYPE, Binding, RoutingContext
from pykbroker.errors import KafkaError
from pykbroker.plugins import ComponentFault, ComponentUnavailable, Plugins

Match = Callable[[RoutingContext], Sequence[Binding]]
"""The bindings that match one record; raises ComponentFault, and KafkaError where the type is missing."""


class Compiler(Protocol):
    """What makes matchers: exchange types by name."""

    def compile(
        self, kind: str, exchange: str, settings: Mapping[str, str], bindings: Sequence[Binding]
    ) -> tuple[Match, bool]:
        """What matches, and whether its answer depends on the routing key alone.

        ``settings`` are the exchange's own.  Raises KafkaError (POLICY_VIOLATION) when there is no such
        type, or its plugin fails.
        """
        ...


class CompiledExchange:
    """What a routing table knows of an exchange.  ``missing`` is why it cannot route, if it cannot."""

    __slots__ = ("alternate", "key_only", "kind", "match", "missing", "name", "settings", "version")

    def __init__(
        self, name: str, version: ExchangeVersion, compiler: Compiler, settings: Mapping[str, str]
    ) -> None:
        assert version.kind is not None, f"{name} is no exchange in version {version.number}"
        self.name = name
        self.kind = version.kind
        self.version = version
        self.settings = settings
        self.alternate = version.alternate
        self.missing: KafkaError | None = None
        self.match: Match
        self.key_only: bool
        try:
            self.match, self.key_only = compiler.compile(version.kind, name, settings, version.bindings)
        except KafkaError as error:
            self.missing = error
            self.match, self.key_only = self._refuse, False

    def _refuse(self, ctx: RoutingContext) -> Sequence[Binding]:
        assert self.missing is not None
        raise self.missing


class PluginCompiler:
    """Exchange types as plugins offer them; a fault of theirs is contained."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    def compile(
        self, kind: str, exchange: str, settings: Mapping[str, str], bindings: Sequence[Binding]
    ) -> tuple[Match, bool]:
        exchange_type = self._plugins.build(EXCHANGE_TYPE, kind, topic=exchange, overrides=settings)
        guard = self._plugins.guard(EXCHANGE_TYPE, kind, exchange)
        try:
            matcher = guard.call(exchange_type.compile, bindings)
        except ComponentFault as fault:
            raise ComponentUnavailable(str(fault)) from fault
        known = frozenset(bindings)
        ask = matcher.match

        def checked(ctx: RoutingContext) -> Sequence[Binding]:
            found = tuple(ask(ctx))
            if not known.issuperset(found):
                raise ValueError(f"{found!r} are not all bindings of this exchange")
            return found

        call = guard.call
        return lambda ctx: call(checked, ctx), bool(getattr(matcher, "key_only", False))
