"""``pykbroker exchanges``: declare exchanges, bind topics to them, and see where a record would go."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykbroker.cli import _exchanges, _routing
from pykbroker.cli._client import Row, ask, bootstrap_option, format_option, show
from pykbroker.cli._errors import Failed
from pykbroker.cli._exchanges import ALTERNATE, APPEND, BINDINGS, SUBTRACT, TYPE, UNROUTABLE

if TYPE_CHECKING:
    from pykbroker.client import Client
    from pykbroker.components import Binding

HELP = """\
Exchanges copy what they get to topics and other exchanges, by rules called bindings.

\b
  pykbroker topics create eu
  pykbroker exchanges declare orders --type topic
  pykbroker exchanges bind orders eu --key 'eu.#'
  pykbroker exchanges test orders --key eu.berlin.created

A producer sends to the exchange as to any topic. The routing key is the record header `routing-key`,
else the record's key.
"""


@click.group("exchanges", help=HELP, short_help="Declare, bind, list and test exchanges.")
def command() -> None:
    pass


@command.command()
@click.argument("exchange")
@click.option(
    "-t", "--type", "kind", required=True, help="fanout, direct, topic, headers, wildcard, consistent-hash..."
)
@click.option("-p", "--partitions", type=click.IntRange(1), help="How many. [num.partitions of the broker]")
@click.option("--alternate", metavar="EXCHANGE", help="The exchange that gets what no binding matches.")
@click.option(
    "--unroutable",
    type=click.Choice(("drop", "error")),
    help="What happens to records that go nowhere: dropped, or refused when produced. [drop]",
)
@click.option("--keep", is_flag=True, help="Keep records that have been forwarded, by the retention.")
@click.option(
    "-c", "--set", "--config", "configs", metavar="KEY=VALUE", multiple=True, help="A topic setting."
)
@bootstrap_option
def declare(
    exchange: str,
    kind: str,
    partitions: int | None,
    alternate: str | None,
    unroutable: str | None,
    keep: bool,
    configs: tuple[str, ...],
    bootstrap: str,
) -> None:
    """Make EXCHANGE, or check that it is there with these settings.

    \b
      pykbroker exchanges declare orders --type topic
      pykbroker exchanges declare unmatched --type fanout
      pykbroker exchanges declare payments --type direct --alternate unmatched

    \b
    A binding matches, by type:
      fanout           always
      direct           its key is the routing key
      topic            its key fits, word by word: * is one word, # any number of them
      headers          the record's headers fit its arguments
      wildcard         its key fits as a file name pattern: *213*, order-?
      consistent-hash  the routing key falls to it; its key is its share
    """
    wanted = {TYPE: kind}
    if alternate is not None:
        wanted[ALTERNATE] = alternate
    if unroutable is not None:
        wanted[UNROUTABLE] = unroutable
    if keep:
        wanted["pykbroker.exchange.keep"] = "true"
    for text in configs:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--config {text}: must be KEY=VALUE")
        wanted[name] = value

    async def story(client: Client) -> bool:
        return await _declare(client, exchange, partitions, wanted)

    made = ask(bootstrap, story)
    click.echo(f"declared {exchange}" if made else f"{exchange} is there already, with these settings")


async def _declare(client: Client, exchange: str, partitions: int | None, wanted: dict[str, str]) -> bool:
    """Whether it was made; raises :class:`Failed` when it is there and differs."""
    from pykbroker.errors import ErrorCode, KafkaError
    from pykbroker.protocol.messages.create_topics import (
        CreatableTopic,
        CreatableTopicConfig,
        CreateTopicsRequest,
        CreateTopicsResponse,
    )

    topic = CreatableTopic(
        name=exchange,
        num_partitions=-1 if partitions is None else partitions,
        replication_factor=-1,
        configs=[CreatableTopicConfig(name=name, value=value) for name, value in wanted.items()],
    )
    answer = await (await client.controller()).send(CreateTopicsRequest(topics=[topic]), CreateTopicsResponse)
    (result,) = answer.topics
    if not result.error_code:
        return True
    if result.error_code != ErrorCode.TOPIC_ALREADY_EXISTS:
        raise KafkaError(ErrorCode(result.error_code), result.error_message)
    there = (await _exchanges.exchange(client, exchange)).settings
    for name, value in wanted.items():
        if there.get(name, "") != value:
            raise Failed(f"{exchange} is there already, with {name}={there.get(name, '')!r}, not {value!r}")
    if partitions is not None:
        (found,) = (await client.metadata([exchange])).topics
        if len(found.partitions) != partitions:
            raise Failed(f"{exchange} is there already, with {len(found.partitions)} partitions")
    return False


def _binding_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (  # the last one is shown first
        click.option(
            "--present",
            metavar="NAME",
            multiple=True,
            help="An argument without value, for type headers: the header is there.",
        ),
        click.option(
            "-a",
            "--argument",
            "arguments",
            metavar="NAME=VALUE",
            multiple=True,
            help="An argument, for type headers: the header and its value; may be repeated.",
        ),
        click.option("-k", "--key", "keys", multiple=True, help="The binding's key; may be repeated."),
    ):
        function = option(function)
    return function


@command.command()
@click.argument("exchange")
@click.argument("target")
@_binding_options
@bootstrap_option
def bind(
    exchange: str,
    target: str,
    keys: tuple[str, ...],
    arguments: tuple[str, ...],
    present: tuple[str, ...],
    bootstrap: str,
) -> None:
    """Have EXCHANGE copy what matches to TARGET.

    TARGET is a topic or another exchange.

    \b
      pykbroker exchanges bind orders eu --key 'eu.#'
      pykbroker exchanges bind invoices pdf --argument format=pdf --present customer
      pykbroker exchanges bind invoices any --argument x-match=any --argument format=pdf --present urgent

    What is produced after this command has ended is routed by it.
    """
    wanted = _bindings(target, keys, arguments, present)

    async def story(client: Client) -> None:
        await _exchanges.exchange(client, exchange)
        await _exchanges.alter(client, exchange, [(BINDINGS, APPEND, _rendered(wanted))])

    ask(bootstrap, story)
    click.echo(f"bound {target} to {exchange}")


@command.command()
@click.argument("exchange")
@click.argument("target")
@_binding_options
@click.option("--all", "everything", is_flag=True, help="Every binding of TARGET, whatever its key.")
@bootstrap_option
def unbind(
    exchange: str,
    target: str,
    keys: tuple[str, ...],
    arguments: tuple[str, ...],
    present: tuple[str, ...],
    everything: bool,
    bootstrap: str,
) -> None:
    """Take back a binding, given as it was for `bind`.

    \b
      pykbroker exchanges unbind orders eu --key 'eu.#'
      pykbroker exchanges unbind orders eu --all

    `exchanges show EXCHANGE` says what is bound.
    """
    if everything and (keys or arguments or present):
        raise click.UsageError("--all is every binding: give no key and no argument with it")
    wanted = _bindings(target, keys, arguments, present)

    async def story(client: Client) -> int:
        there = (await _exchanges.exchange(client, exchange)).bindings
        of_target = [binding for binding in there if binding.to == target]
        chosen = of_target if everything else [binding for binding in wanted if binding in there]
        if len(chosen) < (1 if everything else len(wanted)):
            others = _rendered(of_target) if of_target else "not at all"
            raise Failed(f"{target} is not bound to {exchange} like that", f"It is bound: {others}")
        await _exchanges.alter(client, exchange, [(BINDINGS, SUBTRACT, _rendered(chosen))])
        return len(chosen)

    count = ask(bootstrap, story)
    click.echo(f"unbound {target} from {exchange}" + (f" ({count} bindings)" if count > 1 else ""))


def _bindings(
    target: str, keys: Sequence[str], arguments: Sequence[str], present: Sequence[str]
) -> list[Binding]:
    from pykbroker.components import Binding

    values: dict[str, str | None] = dict.fromkeys(present)
    values.update(_pairs("--argument", arguments))
    return [Binding(target, key, values) for key in keys or [""]]


def _pairs(option: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not equals or not name:
            raise click.UsageError(f"{option} {name}{value}: must be NAME=VALUE")
    return [(name, value) for name, _, value in pairs]


def _rendered(bindings: Sequence[Binding]) -> str:
    from pykbroker.catalog.bindings import render

    return render(bindings)


@command.command("list")
@bootstrap_option
@format_option
def list_(bootstrap: str, form: str) -> None:
    """List the exchanges of the cluster."""

    async def story(client: Client) -> list[Row]:
        return [
            {
                "exchange": each.name,
                "type": each.kind,
                "bindings": len(each.bindings),
                "alternate": each.alternate,
                "unroutable": each.settings.get(UNROUTABLE),
            }
            for each in (await _exchanges.exchanges(client)).values()
        ]

    show(ask(bootstrap, story), form)


@command.command("show")
@click.argument("exchange")
@bootstrap_option
@format_option
def show_(exchange: str, bootstrap: str, form: str) -> None:
    """Show what is bound to EXCHANGE."""

    async def story(client: Client) -> tuple[str, list[Row]]:
        found = await _exchanges.exchanges(client)
        each = found.get(exchange) or await _exchanges.exchange(client, exchange)
        head = f"exchange {exchange}: type {each.kind}, {len(each.bindings)} bindings"
        if each.alternate:
            head += f", alternate {each.alternate}"
        return head, [
            _routing.shown(binding, form, exchange=binding.to in found) for binding in each.bindings
        ]

    head, rows = ask(bootstrap, story)
    if form == "table":
        click.echo(head + ("\n" if rows else ""))
    show(rows, form)


@command.command()
@click.argument("exchange")
@click.option("-k", "--key", default=None, help="The routing key. [the header routing-key, else none]")
@click.option("-H", "--header", "headers", metavar="NAME=VALUE", multiple=True, help="A record header.")
@click.option(
    "--plugin", "plugins", metavar="MODULE_OR_FILE", multiple=True, help="A plugin; may be repeated."
)
@click.option("--plugins-dir", metavar="DIR", type=Path, help="A directory of plugin files.")
@bootstrap_option
@format_option
def test(
    exchange: str,
    key: str | None,
    headers: tuple[str, ...],
    plugins: tuple[str, ...],
    plugins_dir: Path | None,
    bootstrap: str,
    form: str,
) -> None:
    """Show where a record sent to EXCHANGE would go, and why.  Nothing is sent.

    \b
      pykbroker exchanges test orders --key eu.berlin.created
      pykbroker exchanges test invoices --header format=pdf --header customer=7

    Evaluated here, from the settings that the cluster describes, with the plugins of this machine.
    """
    from pykbroker.components import RoutingContext
    from pykbroker.routing import routing_key_of

    pairs = [(name, value.encode()) for name, value in _pairs("--header", headers)]
    raw = None if key is None else key.encode()
    routing_key = key if key is not None else routing_key_of(None, pairs)
    ctx = RoutingContext(exchange=exchange, routing_key=routing_key, key=raw, headers=pairs)

    async def story(client: Client) -> dict[str, _exchanges.Described]:
        await _exchanges.exchange(client, exchange)
        return await _exchanges.exchanges(client)

    explained = _routing.explain(ask(bootstrap, story), exchange, ctx, plugins, plugins_dir)
    if form == "json":
        click.echo(json.dumps(_routing.as_json(explained), indent=2))
    else:
        _routing.print_(explained)


@command.command()
@click.argument("exchange")
@click.option("--yes", is_flag=True, help="Do not ask.")
@bootstrap_option
def delete(exchange: str, yes: bool, bootstrap: str) -> None:
    """Delete EXCHANGE, and the records that it still has.

    What it is bound to stays.
    """
    if not yes:
        click.confirm(f"Delete exchange {exchange}?", abort=True)

    async def story(client: Client) -> None:
        from pykbroker.errors import ErrorCode, KafkaError
        from pykbroker.protocol.messages.delete_topics import (
            DeleteTopicsRequest,
            DeleteTopicsResponse,
            DeleteTopicState,
        )

        await _exchanges.exchange(client, exchange)
        request = DeleteTopicsRequest(topics=[DeleteTopicState(name=exchange)], topic_names=[exchange])
        (result,) = (await (await client.controller()).send(request, DeleteTopicsResponse)).responses
        if result.error_code:
            raise KafkaError(ErrorCode(result.error_code), result.error_message)

    ask(bootstrap, story)
    click.echo(f"deleted {exchange}")
