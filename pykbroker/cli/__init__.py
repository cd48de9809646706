"""The command line: ``pykbroker serve``, and the client commands.

Each command lives in the module of its name and is imported when it is called, so that a command
costs no more than it uses.  Exit status: 0, 1 failed, 2 usage.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress

import click

from pykbroker._version import __version__
from pykbroker.cli._errors import Failed, failed

COMMANDS = (
    "serve",
    "topics",
    "groups",
    "brokers",
    "produce",
    "consume",
    "exchanges",
    "dlq",
    "log",
    "plugins",
    "settings",
)


class Commands(click.Group):
    """A group whose commands are found by module name, then among plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from pykbroker.cli import _plugged

        return [*COMMANDS, *_plugged.names(COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            from pykbroker.cli import _plugged

            return _plugged.command(cmd_name)
        command: object = importlib.import_module(f"pykbroker.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.command(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """A message broker that Kafka clients use as they would Apache Kafka.

    Start one with `pykbroker serve`, then point any Kafka client at localhost:9092.
    """


def main() -> None:
    """The entry point: run the command line and exit."""
    try:
        cli.main(prog_name="pykbroker")
    except Failed as failure:
        failed(failure)
        sys.exit(1)
    except OSError as error:  # nearly always standard output, which is a file on a full disk
        failed(Failed(f"{error.strerror or error}{'' if error.filename is None else f': {error.filename}'}"))
        with suppress(OSError):  # what could not be written would be tried again, and told, at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
