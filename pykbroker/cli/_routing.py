"""Where a record would go, evaluated from described exchanges with the plugins of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykbroker.cli._client import Row
from pykbroker.cli._errors import Failed
from pykbroker.cli._exchanges import Described, image_of

if TYPE_CHECKING:
    from pykbroker.components import Binding, RoutingContext
    from pykbroker.routing import Explained


def explain(
    found: dict[str, Described],
    exchange: str,
    ctx: RoutingContext,
    named: Sequence[str],
    directory: Path | None,
) -> Explained:
    """Where the record goes; ``named`` and ``directory`` are plugins beside those that are installed.

    Raises :class:`Failed` where an exchange type on the way is missing here.
    """
    from pykbroker.cli.serve import load_plugins, load_settings
    from pykbroker.errors import KafkaError
    from pykbroker.routing import Routes
    from pykbroker.routing.compiled import PluginCompiler

    plugins = load_plugins(load_settings(None, []), named, directory)
    try:
        table = Routes(PluginCompiler(plugins), image_of(found)).current
        return table.explain(exchange, ctx)
    except KafkaError as error:
        raise Failed(str(error), "--plugin and --plugins-dir load what the broker has") from error
    finally:
        plugins.close()


def as_json(explained: Explained) -> dict[str, object]:
    """The answer as a JSON object."""
    from pykbroker.catalog.bindings import fields

    return {
        "routing_key": explained.routing_key,
        "targets": sorted(explained.targets),
        "unroutable": not explained.targets,
        "steps": [
            {
                "exchange": step.exchange,
                "type": step.kind,
                "matched": [fields(binding) for binding in step.matched],
                "alternate": step.alternate,
                "fault": step.fault,
            }
            for step in explained.steps
        ],
    }


def print_(explained: Explained) -> None:
    """Print the answer for a person."""
    targets = ", ".join(sorted(explained.targets))
    click.echo(f"goes to: {targets}" if targets else "goes nowhere: it is unroutable")
    for step in explained.steps:
        click.echo(f"\n{step.exchange} ({step.kind})")
        for binding in step.matched:
            row = shown(binding, "table", exchange=False)
            why = " ".join(f"{name}={row[name]!r}" for name in ("key", "arguments") if row[name])
            click.echo(f"  {binding.to:<20} {why}".rstrip())
        if step.fault is not None:
            click.echo(f"  failed: {step.fault}")
        if not step.matched:
            click.echo(f"  no binding matches{f': alternate {step.alternate}' if step.alternate else ''}")


def shown(binding: Binding, form: str, *, exchange: bool) -> Row:
    """A binding as a row; ``exchange``: its target is one."""
    arguments: object = dict(binding.arguments)
    if form == "table":
        pairs = binding.arguments.items()
        arguments = " ".join(name if value is None else f"{name}={value}" for name, value in pairs) or None
    kind = "exchange" if exchange else "topic"
    return {"to": binding.to, "kind": kind, "key": binding.key, "arguments": arguments}
