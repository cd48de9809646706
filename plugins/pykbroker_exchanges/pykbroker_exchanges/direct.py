"""``direct``: a binding matches the records whose routing key is its key."""

from __future__ import annotations

from collections.abc import Sequence

from pykbroker import Binding, RoutingContext
from pykbroker_exchanges._arguments import refuse_arguments


class _ByKey:
    key_only = True

    def __init__(self, bindings: Sequence[Binding]) -> None:
        self._by_key: dict[str, list[Binding]] = {}
        for binding in bindings:
            self._by_key.setdefault(binding.key, []).append(binding)

    def match(self, ctx: RoutingContext) -> Sequence[Binding]:
        return self._by_key.get(ctx.routing_key, ())


class Direct:
    """The exchange type ``direct``."""

    def validate(self, binding: Binding) -> None:
        """Any key, the empty one too; no arguments."""
        refuse_arguments("direct", binding)

    def compile(self, bindings: Sequence[Binding]) -> _ByKey:
        """A dict by key."""
        return _ByKey(bindings)
