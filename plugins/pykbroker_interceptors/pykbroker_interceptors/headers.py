"""A header for every record."""

from __future__ import annotations

from collections.abc import Sequence

from pykbroker import BuildContext, InterceptContext, RecordData


class AddHeader:
    """Puts header ``name`` behind the others; ``value`` may hold placeholders in braces."""

    def __init__(self, name: str, value: str, *, replace: bool) -> None:
        self._name = name
        self._value = value
        self._replace = replace

    def intercept(self, ctx: InterceptContext) -> Sequence[RecordData]:
        """All records, each with the header."""
        added = (self._name, self._filled(ctx).encode())
        return [record._replace(headers=(*self._kept(record), added)) for record in ctx.records]

    def _kept(self, record: RecordData) -> Sequence[tuple[str, bytes | None]]:
        if not self._replace:
            return record.headers
        return [header for header in record.headers if header[0] != self._name]

    def _filled(self, ctx: InterceptContext) -> str:
        # Not str.format: a setting is data, and must not reach into objects.
        return (
            self._value.replace("{client_id}", ctx.client_id or "")
            .replace("{topic}", ctx.topic)
            .replace("{partition}", str(ctx.partition))
            .replace("{time_ms}", str(ctx.now_ms))
        )


def add_header(build: BuildContext) -> AddHeader:
    """The interceptor ``add-header``.  Raises ValueError without a name."""
    name = build.settings.text("name")
    if not name:
        raise ValueError("add-header needs the setting pykbroker.plugin.add-header.name")
    return AddHeader(name, build.settings.text("value"), replace=build.settings.flag("replace"))
