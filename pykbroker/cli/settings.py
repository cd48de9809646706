"""``pykbroker settings``: every setting with its default, what it may be, and what it does."""

from __future__ import annotations

import json
from collections.abc import Callable

import click

from pykbroker.cli._errors import Failed
from pykbroker.config import BrokerConfig, GroupConfig, Setting, TopicConfig, markdown, settings_of

TABLES = {"broker": BrokerConfig, "topic": TopicConfig, "group": GroupConfig}


@click.command("settings", short_help="List all settings.")
@click.argument("words", nargs=-1)
@click.option("--of", type=click.Choice(tuple(TABLES)), help="Only those of a broker, a topic or a group.")
@click.option(
    "--format", "form", type=click.Choice(("table", "json", "markdown")), default="table", show_default=True
)
def command(words: tuple[str, ...], of: str | None, form: str) -> None:
    """List the settings whose name contains all WORDS: default, what is allowed, what it does.

    \b
    What holds on a running broker, and who says so:
      pykbroker topics describe orders --settings
      pykbroker groups describe billing --settings
      pykbroker brokers describe

    `pykbroker topics alter`, `groups alter` and `brokers alter` set them.
    """
    if form == "markdown":
        if words or of:
            raise click.UsageError("--format markdown is the whole page: give neither WORDS nor --of")
        click.echo(markdown.render().rstrip())
        return
    tables = {
        kind: [row for name, row in settings_of(cls).items() if all(word in name for word in words)]
        for kind, cls in TABLES.items()
        if of in (None, kind)
    }
    if form == "table" and not any(tables.values()):
        raise Failed(
            f"no setting{'' if of is None else f' of a {of}'} has {' and '.join(words)} in its name",
            "`pykbroker settings` lists them all",
        )
    click.echo(FORMATS[form](tables).rstrip())


Tables = dict[str, list[Setting]]


def _default(row: Setting) -> str:
    text = row.render(row.default)
    shown = "not set" if text is None else text or '""'
    return shown if row.kafka_default is None else f"{shown} [{row.kafka_default}]"


def _table(tables: Tables) -> str:
    blocks = []
    for kind, rows in tables.items():
        for row in rows:
            head = f"{click.style(row.name, bold=True)} = {_default(row)}  ({kind}; {row.allowed})"
            blocks.append(f"{head}\n{click.wrap_text(row.doc, 96, '    ', '    ')}")
    return "\n".join(blocks)


def _json(tables: Tables) -> str:
    entries = [
        {
            "of": kind,
            "name": row.name,
            "type": row.kind.value,
            "default": row.render(row.default),
            "kafka_default": row.kafka_default or row.render(row.default),
            "allowed": row.allowed,
            "dynamic": row.dynamic,
            "doc": row.doc,
        }
        for kind, rows in tables.items()
        for row in rows
    ]
    return json.dumps(entries, indent=2)


FORMATS: dict[str, Callable[[Tables], str]] = {"table": _table, "json": _json}
