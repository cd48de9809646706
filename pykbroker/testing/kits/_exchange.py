"""The kit for exchange types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pykbroker.components import EXCHANGE_TYPE, Binding, ExchangeType, Matcher, RoutingContext
from pykbroker.testing.kits._making import KitFailure, Make, Values, call, make

SAMPLES = (
    Binding("a"),
    Binding("b", "orders.eu"),
    Binding("c", "orders.*"),
    Binding("d", "#"),
    Binding("d", "1"),
    Binding("e", "", {"kind": "order"}),
    Binding("f", "", {"kind": None}),
    Binding("g", "", {"x-match": "any", "kind": "order"}),
    Binding("h", "key", {"no such argument": "?"}),
)
ROUTING_KEYS = ("", "orders", "orders.eu", "orders.eu.berlin", ".", "..", "ö.*.#", "x" * 300)
HEADERS: Sequence[Sequence[tuple[str, bytes | None]]] = (
    (),
    (("kind", b"order"),),
    (("kind", b"other"), ("kind", b"order"), ("", b"")),
    (("kind", None), ("bytes", b"\xff\xfe")),
)

Routes = Sequence[tuple[Binding, RoutingContext]]


def check_exchange_type(
    component: Make[ExchangeType],
    *,
    settings: Values | None = None,
    valid: Sequence[Binding] = (),
    invalid: Sequence[Binding] = (),
    matches: Routes = (),
    differs: Routes = (),
) -> None:
    """``validate`` takes a binding or raises ValueError with a sentence; what it takes can be compiled;
    a matcher answers with bindings it was compiled from, the same each time, whatever their order.

    ``valid`` and ``invalid`` must be taken and refused; in ``matches`` and ``differs`` each binding must
    match, or not match, its record.
    """
    kind = make(EXCHANGE_TYPE, component, settings)
    taken = [binding for binding in (*SAMPLES, *valid) if _accepts(kind, binding)]
    for binding in valid:
        if binding not in taken:
            raise KitFailure(f"validate() refused {binding!r}, which is valid")
    for binding in invalid:
        if _accepts(kind, binding):
            raise KitFailure(f"validate() took {binding!r}, which is not valid")
    _check_matcher(kind, taken)
    for routes, wanted in ((matches, True), (differs, False)):
        for binding, ctx in routes:
            matcher = call("compile()", kind.compile, [binding])
            if (binding in _matched(matcher, ctx, {binding})) is not wanted:
                raise KitFailure(f"{binding!r} {'does not match' if wanted else 'matches'} {ctx!r:.300}")


def _accepts(kind: ExchangeType, binding: Binding) -> bool:
    verdicts = {_verdict(kind, binding) for _ in range(2)}
    if len(verdicts) > 1:
        raise KitFailure(f"validate() takes {binding!r} and then refuses it")
    return verdicts == {True}


def _verdict(kind: ExchangeType, binding: Binding) -> bool:
    try:
        call("validate()", kind.validate, binding, expected=ValueError)
    except ValueError as error:
        if not str(error).strip():
            raise KitFailure(f"validate() refused {binding!r} without a word for the user") from error
        return False
    return True


def _check_matcher(kind: ExchangeType, taken: Sequence[Binding]) -> None:
    nothing = call("compile()", kind.compile, [])
    matcher = call("compile()", kind.compile, list(taken))
    turned = call("compile()", kind.compile, [*reversed(taken), *taken])
    remembered: dict[str, frozenset[Binding]] = {}
    for ctx in _contexts():
        if _matched(nothing, ctx, frozenset()):
            raise KitFailure("a matcher without bindings matches")
        found = _matched(matcher, ctx, frozenset(taken))
        if found != _matched(matcher, ctx, frozenset(taken)):
            raise KitFailure(f"match() gives another answer the second time, for {ctx!r:.300}")
        if found != _matched(turned, ctx, frozenset(taken)):
            raise KitFailure(f"the order of bindings, or one given twice, changes what matches {ctx!r:.300}")
        if getattr(matcher, "key_only", False) and remembered.setdefault(ctx.routing_key, found) != found:
            raise KitFailure(f"key_only is claimed, and headers change what matches {ctx!r:.300}")


def _contexts() -> Iterator[RoutingContext]:
    for routing_key in ROUTING_KEYS:
        for headers in HEADERS:
            for key in (None, routing_key.encode(), b"\xff"):
                yield RoutingContext(exchange="kit", routing_key=routing_key, key=key, headers=headers)


def _matched(
    matcher: Matcher, ctx: RoutingContext, known: frozenset[Binding] | set[Binding]
) -> frozenset[Binding]:
    def listed(ctx: RoutingContext) -> object:
        answer: object = matcher.match(ctx)
        return tuple(answer) if isinstance(answer, Iterable) else answer

    found = call("match()", listed, ctx)
    if not isinstance(found, tuple):
        raise KitFailure(f"match() gave {found!r:.100}, which is no iterable of bindings")
    strangers = [each for each in found if each not in known]
    if strangers:
        raise KitFailure(f"match() gave {strangers[0]!r:.200}, which was not compiled")
    return frozenset(found)
