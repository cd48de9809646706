"""Values must be JSON that fits a schema.

The library ``jsonschema`` does the work and is imported when a topic first needs it.  References to
other documents are not followed: a broker fetches nothing because a schema says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from pykbroker import BuildContext, RecordError, ValidationContext

Complaint = Callable[[object], str | None]
"""What is wrong with a decoded value; None: nothing."""


class JsonSchema:
    """Refuses records whose value is no JSON, or JSON about which ``complaint`` has one."""

    def __init__(self, complaint: Complaint, *, tombstones: bool) -> None:
        self._complaint = complaint
        self._tombstones = tombstones

    def check(self, ctx: ValidationContext) -> Iterator[RecordError]:
        """The records that do not fit."""
        for index, record in enumerate(ctx.batch.records):
            if record.value is None:
                why = None if self._tombstones else "its value is null"
            else:
                why = self._examine(record.value)
            if why is not None:
                yield RecordError(index, why)

    def _examine(self, value: bytes) -> str | None:
        try:
            decoded: object = json.loads(value)
        except (ValueError, RecursionError) as error:
            return f"its value is not JSON: {error}"
        return self._complaint(decoded)


def json_schema(build: BuildContext) -> JsonSchema:
    """The validator ``json-schema``.  Raises ValueError for a schema that is none."""
    text = build.settings.text("schema")
    complaint = _compiled(text) if text else _no_complaint
    return JsonSchema(complaint, tombstones=build.settings.flag("tombstones"))


def _no_complaint(decoded: object) -> str | None:
    return None


def _compiled(text: str) -> Complaint:
    try:
        from jsonschema.exceptions import SchemaError, best_match
        from jsonschema.validators import validator_for
        from referencing import Registry
    except ImportError as error:
        raise ImportError(
            "json-schema needs the library jsonschema: pip install 'pykbroker[json-schema]'"
        ) from error
    try:
        schema = json.loads(text)
        cls = validator_for(schema)
        cls.check_schema(schema)
    except (ValueError, SchemaError) as error:
        reason = error.message if isinstance(error, SchemaError) else str(error)
        raise ValueError(f"pykbroker.plugin.json-schema.schema is not a JSON schema: {reason}") from error
    validator = cls(schema, registry=Registry())  # an empty registry retrieves nothing

    def complaint(decoded: object) -> str | None:
        error = best_match(validator.iter_errors(decoded))
        return (
            None
            if error is None
            else f"its value does not fit the schema: {error.json_path}: {error.message}"
        )

    return complaint
