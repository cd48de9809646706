"""Where records go, for one state of all exchanges: the closure over exchange-to-exchange bindings.

As RabbitMQ does it: from the entry exchange on, what matches is followed; a name that is an exchange is
visited (once, however often it is reached, so that loops are harmless), any other is a final target and
gets one copy.  An exchange whose own match is empty passes the record to its alternate, if it has one,
wherever in the closure it stands.  Intermediate exchanges get no copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pykbroker.components import Binding, RoutingContext
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.plugins import ComponentFault
from pykbroker.routing.compiled import CompiledExchange

CACHED_KEYS = 16_384
"""Routing keys remembered per entry exchange: about 4 MB with keys of 100 bytes."""

CACHED_KEY_LENGTH = 256
"""Longer keys are not remembered, so that what is remembered has a bound in bytes too."""


class Routed(NamedTuple):
    """Where one record goes.  ``targets`` are names of topics, each of which gets one copy."""

    targets: frozenset[str]

    @property
    def unroutable(self) -> bool:
        """Whether it goes nowhere."""
        return not self.targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One exchange that was visited: by which bindings it goes on, or else by its alternate.  ``fault``:
    its type has failed, which counts as no match."""

    exchange: str
    kind: str
    matched: tuple[Binding, ...]
    alternate: str | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Where one record goes, and why: the exchanges in the order in which they were visited."""

    routing_key: str
    targets: frozenset[str]
    steps: tuple[Step, ...]


class RoutingTable:
    """All exchanges in one state.  Immutable, but for what it remembers."""

    def __init__(self, exchanges: Mapping[str, CompiledExchange]) -> None:
        self._exchanges = exchanges
        self._remembered: dict[str, dict[str, Routed]] = {name: {} for name in exchanges}

    @property
    def exchanges(self) -> Mapping[str, CompiledExchange]:
        """The exchanges by name."""
        return self._exchanges

    def cached(self, entry: str, routing_key: str) -> Routed | None:
        """What is remembered of an earlier record with this key, where nothing but the key decides."""
        known = self._remembered.get(entry)
        return None if known is None else known.get(routing_key)

    def route(self, entry: str, ctx: RoutingContext) -> Routed:
        """Where a record that was sent to the exchange ``entry`` goes.

        Raises KafkaError: UNKNOWN_TOPIC_OR_PARTITION if ``entry`` is no exchange, POLICY_VIOLATION where
        the type of an exchange on the way is missing (nothing can be said then).
        """
        known = self._remembered.get(entry)
        if known is None:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{entry} is not an exchange")
        found = known.get(ctx.routing_key)
        if found is not None:
            return found
        targets: set[str] = set()
        key_only = self._walk(entry, ctx, targets, None)
        routed = Routed(frozenset(targets))
        if key_only and len(ctx.routing_key) <= CACHED_KEY_LENGTH:
            if len(known) >= CACHED_KEYS:
                known.clear()  # whoever has that many keys gains little from remembering them
            known[ctx.routing_key] = routed
        return routed

    def explain(self, entry: str, ctx: RoutingContext) -> Explained:
        """The same with the reasons; raises as :meth:`route`."""
        if entry not in self._exchanges:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{entry} is not an exchange")
        targets: set[str] = set()
        steps: list[Step] = []
        self._walk(entry, ctx, targets, steps)
        return Explained(routing_key=ctx.routing_key, targets=frozenset(targets), steps=tuple(steps))

    def _walk(self, entry: str, ctx: RoutingContext, targets: set[str], steps: list[Step] | None) -> bool:
        """Fill ``targets`` (and ``steps``); returns whether the routing key alone has decided."""
        exchanges = self._exchanges
        key_only = True
        seen = {entry}
        todo = [exchanges[entry]]
        for exchange in todo:  # grows while it is walked
            fault: str | None = None
            matched: Sequence[Binding] = ()
            try:
                matched = exchange.match(ctx)
            except ComponentFault as error:
                fault = str(error)
            if fault is not None or not exchange.key_only:
                key_only = False
            names = [binding.to for binding in matched]
            if not names and exchange.alternate is not None:
                names = [exchange.alternate]
            if steps is not None:
                steps.append(_step(exchange, matched, fault))
            for name in names:
                if name not in exchanges:
                    targets.add(name)
                elif name not in seen:
                    seen.add(name)
                    todo.append(exchanges[name])
        return key_only


def _step(exchange: CompiledExchange, matched: Sequence[Binding], fault: str | None) -> Step:
    return Step(
        exchange=exchange.name,
        kind=exchange.kind,
        matched=tuple(dict.fromkeys(matched)),
        alternate=None if matched else exchange.alternate,
        fault=fault,
    )
