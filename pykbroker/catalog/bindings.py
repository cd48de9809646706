"""Bindings as text: the JSON array that ``pykbroker.exchange.bindings`` holds.

``[{"to": "orders", "key": "eu.#"}, {"to": "audit", "arguments": {"x-match": "any", "level": null}}]``:
``to`` is needed, ``key`` is "" and ``arguments`` are none where they are left out.  A single object is
accepted in place of an array; duplicates count once; the order in which bindings were made is kept.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence

from pykbroker.components import Binding

MAX_DESCRIBED_BYTES = 32_000
"""Java's clients cannot read a config value above 32,767 bytes; a longer one is described as its count."""

_FIELDS = ("to", "key", "arguments")
_COUNT = re.compile(r"@[0-9]+")

_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def is_count(text: str) -> bool:
    """Whether ``text`` is what a value too long to be described looks like: ``@`` and a number."""
    return _COUNT.fullmatch(text.strip()) is not None


def parse(text: str) -> tuple[Binding, ...]:
    """The bindings in ``text``, each once, in order; nothing but white space has none.

    Raises ValueError with a sentence for the user.
    """
    if not text.strip():
        return ()
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    entries = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(_binding(entry) for entry in entries))


def _binding(entry: object) -> Binding:
    if not isinstance(entry, dict):
        raise ValueError(  # noqa: TRY004
            f"a binding must be an object with {', '.join(_FIELDS)}, not {_shown(entry)}"
        )
    for name in entry:
        if name not in _FIELDS:
            near = difflib.get_close_matches(name, _FIELDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"a binding has no {name!r}, only {', '.join(_FIELDS)}{hint}")
    to, key, arguments = entry.get("to"), entry.get("key", ""), entry.get("arguments", {})
    if not isinstance(to, str) or not to:
        raise ValueError(f"'to' must name a topic or an exchange: {_shown(entry)}")
    if not isinstance(key, str):
        raise ValueError(f"'key' must be text, not {_shown(key)}")  # noqa: TRY004
    if not isinstance(arguments, dict):
        raise ValueError(f"'arguments' must be an object, not {_shown(arguments)}")  # noqa: TRY004
    for name, value in arguments.items():
        if value is not None and not isinstance(value, str):
            raise ValueError(f"argument {name!r} must be text, or null for any value, not {_shown(value)}")
    try:
        "".join((to, key, *arguments, *(value or "" for value in arguments.values()))).encode()
    except UnicodeEncodeError:
        raise ValueError(f"has half of a surrogate pair, which no record can hold: {_shown(entry)}") from None
    return Binding(to, key, arguments)


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def fields(binding: Binding) -> dict[str, object]:
    """A binding as a JSON object, without what is left empty."""
    found: dict[str, object] = {"to": binding.to}
    if binding.key:
        found["key"] = binding.key
    if binding.arguments:
        found["arguments"] = dict(binding.arguments)
    return found


def render(bindings: Iterable[Binding]) -> str:
    """The JSON array; :func:`parse` reads it back."""
    return _compact([fields(binding) for binding in bindings])


def described(bindings: Sequence[Binding]) -> str:
    """The value that clients are shown: the JSON array, or ``@`` and the number of bindings where that
    would be more than :data:`MAX_DESCRIBED_BYTES`."""
    text = render(bindings)
    return text if len(text.encode()) <= MAX_DESCRIBED_BYTES else f"@{len(bindings)}"


def pages(bindings: Iterable[Binding]) -> Iterator[str]:
    """The bindings as JSON arrays that are each short enough to be described; a binding that is not
    makes a longer page of its own."""
    page: list[str] = []
    size = 2
    for binding in bindings:
        text = _compact(fields(binding))
        length = len(text.encode()) + 1
        if page and size + length > MAX_DESCRIBED_BYTES:
            yield f"[{','.join(page)}]"
            page, size = [], 2
        page.append(text)
        size += length
    if page:
        yield f"[{','.join(page)}]"
