"""What the client commands share: where the cluster is, how output looks, how failures are told."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from pykbroker.cli._errors import Failed

if TYPE_CHECKING:
    from pykbroker.client import Client
    from pykbroker.errors import KafkaError

P = ParamSpec("P")
T = TypeVar("T")

Row = Mapping[str, object]
Command = TypeVar("Command", bound=Callable[..., None])

bootstrap_option = click.option(
    "-b",
    "--bootstrap-server",
    "bootstrap",
    metavar="HOST:PORT",
    envvar="PYKBROKER_BOOTSTRAP",
    default="localhost:9092",
    show_default=True,
    show_envvar=True,
    help="A broker of the cluster; several separated by commas.",
)

format_option = click.option(
    "--format", "form", type=click.Choice(("table", "json")), default="table", show_default=True
)


def ask(bootstrap: str, story: Callable[[Client], Awaitable[T]]) -> T:
    """Run ``story`` with a client of the cluster; raises :class:`Failed` when the cluster says no."""
    import trio

    from pykbroker.client import Client, ConnectionLost
    from pykbroker.errors import KafkaError

    async def tell() -> T:
        async with Client(bootstrap, client_id="pykbroker-cli") as client:
            return await story(client)

    try:
        return trio.run(tell)
    except ConnectionLost as error:
        raise Failed(str(error), _lost(str(error), bootstrap)) from error
    except KafkaError as error:
        raise refused(error) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _lost(said: str, bootstrap: str) -> str:
    """What to do about a broker that cannot be reached."""
    given = bootstrap.translate({ord("["): None, ord("]"): None}).split(",")
    named = any(said.startswith(f"cannot connect to {address.strip()}: ") for address in given)
    if said.startswith("cannot connect to ") and not named:
        return (
            f"{bootstrap} says that a broker is there: does it run, and are its advertised.listeners right?"
        )
    return f"Is a broker running there? `pykbroker serve` starts one; -b says where: {bootstrap}"


_HINTS = {
    "UNKNOWN_TOPIC_OR_PARTITION": "`pykbroker topics list` shows the topics there are",
    "INVALID_TOPIC_EXCEPTION": "The name of a topic has letters, digits, '.', '_' and '-', 249 at most",
    "COORDINATOR_NOT_AVAILABLE": "The cluster makes it when it is first asked for: try again in a moment",
    "MESSAGE_TOO_LARGE": "`pykbroker topics alter TOPIC --set max.message.bytes=BYTES` allows more",
}


def refused(error: KafkaError) -> Failed:
    """What the cluster said, and what to do next where that can be told."""
    code = error.code.name
    said = code if error.message in (None, "", code) else f"{error} ({code})"
    if code == "UNKNOWN_TOPIC_OR_PARTITION":
        said = f"there is no such topic: {said}"
    return Failed(said, _HINTS.get(code, ""))


def show(rows: Sequence[Row], form: str) -> None:
    """Print rows that all have the same keys, as an aligned table or as JSON."""
    if form == "json":
        click.echo(json.dumps(list(rows), indent=2))
    elif rows:
        heads = [name.upper().replace("_", " ") for name in rows[0]]
        cells = [["-" if value is None else str(value) for value in row.values()] for row in rows]
        widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        for line in (heads, *cells):
            click.echo(
                "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            )
