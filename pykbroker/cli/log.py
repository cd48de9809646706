"""``pykbroker log``: look at the files of a data directory, without a broker."""

from __future__ import annotations

import click


@click.group("log", short_help="Look at a data directory.")
def command() -> None:
    """Look at the files of a data directory.  Stop the broker first."""
