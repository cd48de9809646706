"""Fields of JSON values that nobody shall read.

A value in which a field was masked is written anew: numbers may come out in another notation, and white
space goes.  All other values keep their bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pykbroker import BuildContext, InterceptContext, RecordData

Path = tuple[str, ...]


class RedactField:
    """Puts ``mask`` in place of the fields at ``paths``."""

    def __init__(self, paths: Sequence[Path], mask: str, *, keep_otherwise: bool) -> None:
        self._paths = paths
        self._mask = mask
        self._keep_otherwise = keep_otherwise

    def intercept(self, ctx: InterceptContext) -> Sequence[RecordData] | None:
        """The records with their fields masked; None if there was nothing to mask."""
        records = [self._record(record) for record in ctx.records]
        unchanged = all(new is old for new, old in zip(records, ctx.records, strict=True))
        return None if unchanged else records

    def _record(self, record: RecordData) -> RecordData:
        if record.value is None:
            return record
        try:
            value = self._value(record.value)
        except (ValueError, RecursionError):
            if self._keep_otherwise:
                return record
            value = self._mask.encode()
        return record if value is None else record._replace(value=value)

    def _value(self, value: bytes) -> bytes | None:
        """The value with its fields masked, None if it has none of them; ValueError: it is not JSON."""
        decoded: object = json.loads(value, parse_constant=_refuse)
        masked = [_mask(decoded, path, self._mask) for path in self._paths]
        if not any(masked):
            return None
        text = json.dumps(decoded, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode("utf-8", "surrogatepass")


def _mask(node: object, path: Path, mask: str) -> bool:
    """Mask what ``path`` leads to below ``node``, in place; says whether there was anything."""
    if isinstance(node, list):
        found = [_mask(element, path, mask) for element in node]  # all of them: any() would stop early
        return any(found)
    if not isinstance(node, dict) or path[0] not in node:
        return False
    if len(path) > 1:
        return _mask(node[path[0]], path[1:], mask)
    node[path[0]] = mask
    return True


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def redact_field(build: BuildContext) -> RedactField:
    """The interceptor ``redact-field``.  Raises ValueError without fields."""
    paths = [tuple(field.split(".")) for field in build.settings.texts("fields")]
    if not paths:
        raise ValueError("redact-field needs the setting pykbroker.plugin.redact-field.fields")
    return RedactField(
        paths, build.settings.text("mask"), keep_otherwise=build.settings.text("otherwise") == "keep"
    )
