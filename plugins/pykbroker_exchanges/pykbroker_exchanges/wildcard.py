"""``wildcard``: patterns as the shell knows them for file names, over the whole routing key.

``*`` is any text (dots too, and none at all), ``?`` one character, ``[seq]`` one of these, ``[!seq]``
none of these; to mean one of the signs itself, put it in brackets: ``[*]``.  Case counts.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence

from pykbroker import Binding, RoutingContext
from pykbroker_exchanges._arguments import refuse_arguments

_SPECIAL = re.compile(r"[*?\[]")


class _Patterns:
    key_only = True

    def __init__(self, bindings: Sequence[Binding]) -> None:
        self._by_key: dict[str, list[Binding]] = {}
        self._patterns = [
            # translate() makes expressions that do not backtrack into what a "*" has taken
            (re.compile(fnmatch.translate(binding.key)).match, binding)
            for binding in bindings
            if _SPECIAL.search(binding.key)
        ]
        for binding in bindings:
            if not _SPECIAL.search(binding.key):
                self._by_key.setdefault(binding.key, []).append(binding)

    def match(self, ctx: RoutingContext) -> Iterable[Binding]:
        key = ctx.routing_key
        found = [binding for fits, binding in self._patterns if fits(key)]
        found += self._by_key.get(key, ())
        return found


class Wildcard:
    """The exchange type ``wildcard``."""

    def validate(self, binding: Binding) -> None:
        """Any key is a pattern; no arguments."""
        refuse_arguments("wildcard", binding)

    def compile(self, bindings: Sequence[Binding]) -> _Patterns:
        """Regular expressions, and a dict for keys without signs."""
        return _Patterns(bindings)
