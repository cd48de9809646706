"""``pykbroker audit``: an audit log for people."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from typing import TextIO

import click


@click.command(short_help="Show an audit log.")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option(
    "--event", "kinds", multiple=True, help="Only events of this kind (topic, group, ...); repeatable."
)
@click.option(
    "-n", "--last", type=click.IntRange(min=1), default=50, show_default=True, help="So many lines."
)
def audit(file: TextIO, kinds: tuple[str, ...], last: int) -> None:
    """Show the last events of the audit log FILE, oldest first.

    A broker keeps one with `--set pykbroker.plugin.audit.file=FILE`.
    """
    for event in deque(_events(file, kinds), maxlen=last):
        click.echo(_line(event))


def _events(file: TextIO, kinds: tuple[str, ...]) -> Iterator[dict[str, object]]:
    for number, line in enumerate(file, 1):
        try:
            event = json.loads(line)
        except ValueError:
            click.echo(f"line {number} is no event: {line.strip()[:80]}", err=True)
            continue
        if isinstance(event, dict) and (not kinds or event.get("event") in kinds):
            yield event


def _line(event: dict[str, object]) -> str:
    at = event.get("time_ms")
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at / 1000)) if isinstance(at, int) else "?"
    rest = [
        f"{name}={value}"
        for name, value in event.items()
        if name not in ("time_ms", "event") and value not in (None, "", {}, [])
    ]
    return f"{when}  {event.get('event')}  {' '.join(rest)}"
