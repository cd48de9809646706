"""``headers``: a binding's arguments are compared with the record's headers.

As in RabbitMQ: ``x-match`` says whether ``all`` (the default) or ``any`` of the others must match;
arguments that begin with ``x-`` do not count, but with ``all-with-x`` and ``any-with-x`` they do.  An
argument that is null matches a header of that name whatever its value; any other must be the header's
value as UTF-8.  ``all`` of nothing matches everything, ``any`` of nothing matches nothing.  A record may
repeat a header (RabbitMQ's cannot): then any occurrence may match.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from pykbroker import Binding, RoutingContext

MATCH = "x-match"
MODES = ("all", "any", "all-with-x", "any-with-x")

_Pair = tuple[str, bytes | None]
"""A header and its value; None: any value."""


class _Index:
    """Bindings by a header that they cannot match without, so that a record meets few of them.

    An ``any`` binding is filed under each of its arguments and matches once one is met; an ``all``
    binding under its first, and then the rest is compared.
    """

    key_only = False

    def __init__(self, bindings: Sequence[Binding]) -> None:
        self._always: list[Binding] = []
        self._filed: dict[_Pair, list[tuple[Binding, tuple[_Pair, ...]]]] = {}
        for binding in bindings:
            mode, wanted = _parts(binding)
            if mode == "any":
                for pair in wanted:
                    self._filed.setdefault(pair, []).append((binding, ()))
            elif wanted:
                first, *rest = sorted(wanted, key=lambda pair: pair[1] is None)
                self._filed.setdefault(first, []).append((binding, tuple(rest)))
            else:
                self._always.append(binding)

    def match(self, ctx: RoutingContext) -> Iterable[Binding]:
        found = list(self._always)
        present: set[_Pair] = set()
        for name, value in ctx.headers:
            present.add((name, None))
            if value is not None:
                present.add((name, value))
        filed = self._filed
        for pair in present:
            for binding, rest in filed.get(pair, ()):
                if not rest or present.issuperset(rest):
                    found.append(binding)
        return found


def _parts(binding: Binding) -> tuple[str, list[_Pair]]:
    """``"all"`` or ``"any"``, and the arguments that count."""
    mode, _, with_x = (binding.arguments.get(MATCH) or "all").partition("-")
    wanted = [
        (name, None if value is None else value.encode())
        for name, value in binding.arguments.items()
        if name != MATCH and (with_x or not name.startswith("x-"))
    ]
    return mode, wanted


class HeadersExchange:
    """The exchange type ``headers``."""

    def validate(self, binding: Binding) -> None:
        """``x-match`` must be one of the four; any other name may be a header's."""
        if binding.arguments.get(MATCH, "all") not in MODES:
            shown = binding.arguments[MATCH]
            raise ValueError(f"argument x-match must be one of {', '.join(MODES)}, not {shown!r}")
        for name in binding.arguments:
            if name != MATCH and difflib.get_close_matches(name.lower(), [MATCH], cutoff=0.85):
                raise ValueError(f"there is no argument {name!r}; did you mean {MATCH}?")

    def compile(self, bindings: Sequence[Binding]) -> _Index:
        """An index by header."""
        return _Index(bindings)
