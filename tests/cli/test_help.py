"""`--help` of every command teaches it."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from pykbroker.cli import cli

WIDTH = 80
"""Of a terminal."""


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command, int]]:
    """Every command below ``command``: what one types, and the longest name in its list."""
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            assert found is not None
            longest = max(map(len, command.list_commands(ctx)))
            yield " ".join((*path, name)), found, longest
            yield from commands(found, *path, name)


ALL = {name: (command, longest) for name, command, longest in commands(cli)}


@pytest.mark.parametrize("name", ALL)
def test_it_says_what_it_does_and_what_its_options_are(name: str) -> None:
    command, longest = ALL[name]
    assert command.help
    assert not command.get_short_help_str(WIDTH - 8 - longest).endswith("..."), (
        "the list of commands would cut it off"
    )
    for option in command.params:
        if isinstance(option, click.Option) and not isinstance(option.type, click.Choice):
            assert option.help, f"{name} says nothing of {option.opts}"


@pytest.mark.parametrize("name", ALL)
def test_no_line_of_an_example_is_too_long(name: str) -> None:
    command, _ = ALL[name]
    context = click.Context(command, terminal_width=100)
    assert max(map(len, command.get_help(context).splitlines())) <= 110
