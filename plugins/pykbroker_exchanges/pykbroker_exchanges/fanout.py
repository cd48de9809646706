"""``fanout``: every binding matches every record; keys say nothing."""

from __future__ import annotations

from collections.abc import Sequence

from pykbroker import Binding, RoutingContext
from pykbroker_exchanges._arguments import refuse_arguments


class _All:
    key_only = True

    def __init__(self, bindings: Sequence[Binding]) -> None:
        self._bindings = tuple(bindings)

    def match(self, ctx: RoutingContext) -> Sequence[Binding]:
        return self._bindings


class Fanout:
    """The exchange type ``fanout``."""

    def validate(self, binding: Binding) -> None:
        """A key is accepted and ignored, as in RabbitMQ; arguments are refused."""
        refuse_arguments("fanout", binding)

    def compile(self, bindings: Sequence[Binding]) -> _All:
        """All bindings, at once."""
        return _All(bindings)
