"""How a command fails: one sentence of what went wrong, one of what to do next, exit status 1."""

from __future__ import annotations

import click


class Failed(Exception):
    """A command cannot do its work.  ``hint`` says what the user can do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def failed(failure: Failed) -> None:
    """Print ``failure`` for a person, on standard error."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {failure}", err=True)
    if failure.hint:
        click.echo(f"  {failure.hint}", err=True)
