"""``pykbroker dlq``: look at dead letters, replay them, purge them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from pykbroker.cli._client import ask, bootstrap_option, format_option
from pykbroker.cli._errors import Failed
from pykbroker.cli._letters import Filter, Place, parse_age

if TYPE_CHECKING:
    from pykbroker.cli._settling import Order, Tally

HELP = """\
Dead letters are records that a consumer group could not process, however often they were retried.

\b
  pykbroker dlq list                                which topics have how many
  pykbroker dlq list orders.billing.dlq             the letters of one
  pykbroker dlq show orders.billing.dlq/0/17        one in full
  pykbroker dlq replay orders.billing.dlq/0/17      back to orders, its failures counted from 0
  pykbroker dlq replay orders.billing.dlq --reason 'no price' --rate 50
  pykbroker dlq purge orders.billing.dlq --older-than 30d

A letter is named TOPIC/PARTITION/OFFSET.  Letters that were replayed or purged are settled: they stay in the
topic until its retention removes them, but only --settled shows them, and none is replayed again.
"""


class _Age(click.ParamType[int]):
    name = "age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else parse_age(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Rate(click.ParamType[float]):
    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            rate = float(str(value))
        except ValueError:
            rate = math.nan
        if not 0 < rate < math.inf:
            self.fail(f"{value!r} is no rate: write how many letters a second, such as 50 or 0.5", param, ctx)
        return rate


class _TopicName(click.ParamType[str]):
    name = "topic"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from pykbroker.catalog import names
        from pykbroker.errors import KafkaError

        try:
            names.check(str(value))
        except KafkaError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def _filter_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--newer-than", type=_Age(), metavar="AGE", help="Failed last less than AGE ago."),
        click.option(
            "--older-than",
            type=_Age(),
            metavar="AGE",
            help="Failed last more than AGE ago: 90s, 5m, 1h30m, 2d.",
        ),
        click.option("--reason", metavar="TEXT", help="The reason contains TEXT, in upper or lower case."),
        click.option("--group", metavar="GROUP", help="Given up by GROUP."),
    ):
        function = option(function)
    return function


@click.group("dlq", help=HELP, short_help="List, show, replay and purge dead letters.")
def command() -> None:
    pass


@command.command("list", short_help="List letters, or the topics that have some.")
@click.argument("topic", required=False)
@_filter_options
@click.option("--settled", is_flag=True, help="The letters that were replayed or purged, instead.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="No more than N letters.")
@bootstrap_option
@format_option
def list_(
    topic: str | None,
    group: str | None,
    reason: str | None,
    older_than: int | None,
    newer_than: int | None,
    settled: bool,
    limit: int | None,
    bootstrap: str,
    form: str,
) -> None:
    """List the letters of TOPIC; without TOPIC the dead-letter topics, and how many letters each has.

    Without TOPIC the topics are shown that the broker made for a group, and those that a setting names or an
    exchange leads to, which groups may share.  Any other topic with dead letters is listed when it is named.

    RETURNING are letters on their way back at a rate: where to, and until about when, is said below.

    \b
      pykbroker dlq list --group billing
      pykbroker dlq list orders.billing.dlq --reason timeout --newer-than 1h
    """
    from pykbroker.cli import _reading

    wanted = Filter(group=group, reason=reason, older_than_ms=older_than, newer_than_ms=newer_than)
    if topic is None:
        if settled or limit is not None:
            raise click.UsageError("--settled and --limit are for the letters of one TOPIC: name it")
        ask(bootstrap, lambda client: _reading.list_topics(client, wanted, form))
    else:
        ask(bootstrap, lambda client: _reading.list_letters(client, topic, wanted, settled, limit, form))


@command.command(short_help="Show one letter in full.")
@click.argument("letter", nargs=-1, required=True, metavar="TOPIC/PARTITION/OFFSET")
@click.option("--settled", is_flag=True, help="Also when it was replayed or purged.")
@bootstrap_option
@format_option
def show(letter: tuple[str, ...], settled: bool, bootstrap: str, form: str) -> None:
    """Show one letter in full: key, value, headers, where it came from, how it failed.

    TOPIC PARTITION OFFSET does as well.
    """
    from pykbroker.cli import _reading

    place = Place.parse("/".join(letter))
    if place is None or place.first != place.last:
        raise click.UsageError(
            f"{' '.join(letter)} is no letter: TOPIC/PARTITION/OFFSET, as `dlq list TOPIC` shows it"
        )
    ask(bootstrap, lambda client: _reading.show(client, place, settled, form))


@command.command(short_help="Send letters back to where they came from.")
@click.argument("letters", nargs=-1, required=True, metavar="TOPIC|LETTER...")
@_filter_options
@click.option(
    "--to", type=_TopicName(), metavar="TOPIC", help="Where to.  [the topic that each letter came from]"
)
@click.option("--rate", type=_Rate(), metavar="N", help="N letters a second, no faster.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@bootstrap_option
def replay(
    letters: tuple[str, ...],
    group: str | None,
    reason: str | None,
    older_than: int | None,
    newer_than: int | None,
    to: str | None,
    rate: float | None,
    yes: bool,
    bootstrap: str,
) -> None:
    """Send letters back to where they came from, as if they had never failed.

    \b
      pykbroker dlq replay orders.billing.dlq
      pykbroker dlq replay orders.billing.dlq --reason 'no price' --older-than 1h --rate 50
      pykbroker dlq replay orders.billing.dlq/0/17 orders.billing.dlq/1/3-9 --to orders.repaired

    Every group that reads that topic gets them; with --to they go to another one.

    Ctrl-C leaves the rest where it is.  Repeat the command and it goes on there: nothing is replayed twice.
    """
    from pykbroker.cli import _settling

    wanted = Filter(group=group, reason=reason, older_than_ms=older_than, newer_than_ms=newer_than)
    _settle(bootstrap, letters, wanted, _settling.Order(action="replay", to=to, rate=rate), yes)


@command.command()
@click.argument("letters", nargs=-1, required=True, metavar="TOPIC|LETTER...")
@_filter_options
@click.option("--all", "everything", is_flag=True, help="All letters: their records are deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@bootstrap_option
def purge(
    letters: tuple[str, ...],
    group: str | None,
    reason: str | None,
    older_than: int | None,
    newer_than: int | None,
    everything: bool,
    yes: bool,
    bootstrap: str,
) -> None:
    """Give letters up for good.

    \b
      pykbroker dlq purge orders.billing.dlq --older-than 30d
      pykbroker dlq purge orders.billing.dlq/0/17
      pykbroker dlq purge orders.billing.dlq --all

    Only --settled shows them from then on.  Their records stay in the topic until its retention removes
    them; --all deletes the records at once.
    """
    from pykbroker.cli import _settling

    wanted = Filter(group=group, reason=reason, older_than_ms=older_than, newer_than_ms=newer_than)
    named = any(Place.parse(each) for each in letters)
    if everything and (named or not wanted.is_empty):
        raise click.UsageError("--all is every letter of a topic: name no letters and no filter with it")
    if everything:
        ask(bootstrap, lambda client: _settling.purge_all(client, letters, yes))
    elif wanted.is_empty and not named:
        raise click.UsageError("which letters? Give a filter, name letters, or say --all")
    else:
        _settle(bootstrap, letters, wanted, _settling.Order(action="purge"), yes)


def _settle(bootstrap: str, letters: Sequence[str], wanted: Filter, order: Order, yes: bool) -> None:
    from pykbroker.cli import _settling
    from pykbroker.client import ConnectionLost

    tally = _settling.Tally(total=0)
    try:
        ask(bootstrap, lambda client: _settling.settle_named(client, letters, wanted, order, tally, yes))
    except KeyboardInterrupt:
        raise _broken_off("interrupted", order, tally) from None
    except Failed as failure:
        if isinstance(failure.__cause__, ConnectionLost) and tally.total:
            raise _broken_off(str(failure), order, tally) from failure.__cause__
        raise


def _broken_off(why: str, order: Order, tally: Tally) -> Failed:
    at_most = f", at most {tally.under_way} more were on their way" if tally.under_way else ""
    return Failed(
        f"{why}: {tally.done} of {tally.total} letters {order.past}{at_most}",
        f"Repeat the command to go on with the rest: no letter is {order.past} twice.",
    )
