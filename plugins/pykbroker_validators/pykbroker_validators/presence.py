"""Records must have something: a key, a value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pykbroker import BuildContext, RecordError, ValidationContext


@dataclass(frozen=True, slots=True)
class Require:
    """Refuses records whose ``part`` ("key" or "value") is null or shorter than ``least`` bytes."""

    part: str
    least: int

    def check(self, ctx: ValidationContext) -> Iterator[RecordError]:
        """The records that lack it."""
        for index, record in enumerate(ctx.batch.records):
            found: bytes | None = getattr(record, self.part)
            if found is None:
                yield RecordError(index, f"it has no {self.part}")
            elif len(found) < self.least:
                yield RecordError(index, f"its {self.part} has {len(found)} bytes, {self.least} are needed")


def require_key(build: BuildContext) -> Require:
    """The validator ``require-key``."""
    return Require("key", build.settings.integer("bytes.min"))


def require_value(build: BuildContext) -> Require:
    """The validator ``require-value``."""
    return Require("value", build.settings.integer("bytes.min"))
