"""What the catalog asks of exchange types: which there are, and whether bindings make sense to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from pykbroker.components import EXCHANGE_TYPE, Binding
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.plugins import ComponentFault, Plugins


class ExchangeTypes(Protocol):
    """The exchange types that this broker has."""

    def names(self) -> Iterable[str]:
        """What ``pykbroker.exchange.type`` may be."""
        ...

    def check(
        self, kind: str, exchange: str, settings: Mapping[str, str], bindings: Sequence[Binding]
    ) -> None:
        """Raise ValueError with a sentence for the user unless bindings make sense to the type, KafkaError
        when the type cannot be asked.  ``settings`` are the exchange's own."""
        ...


class PluginExchangeTypes:
    """Exchange types as plugins offer them."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    def names(self) -> Iterable[str]:
        return self._plugins.components(EXCHANGE_TYPE)

    def check(
        self, kind: str, exchange: str, settings: Mapping[str, str], bindings: Sequence[Binding]
    ) -> None:
        # Not the exchange's own object: it may never come to be one, and nobody would forget it.
        exchange_type = self._plugins.build(EXCHANGE_TYPE, kind, overrides=settings)
        guard = self._plugins.guard(EXCHANGE_TYPE, kind, exchange)
        try:
            for binding in bindings:
                guard.call(exchange_type.validate, binding, expected=ValueError)
        except ComponentFault as fault:
            raise KafkaError(ErrorCode.POLICY_VIOLATION, str(fault)) from fault


class NoExchangeTypes:
    """A catalog that nobody has told of any type."""

    def names(self) -> Iterable[str]:
        return ()

    def check(
        self, kind: str, exchange: str, settings: Mapping[str, str], bindings: Sequence[Binding]
    ) -> None:
        raise KafkaError(ErrorCode.POLICY_VIOLATION, f"there is no exchange type {kind}")
