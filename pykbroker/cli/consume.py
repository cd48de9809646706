"""``pykbroker consume``: print what topics have, alone or as a member of a group."""

from __future__ import annotations

import click

from pykbroker.cli._client import ask, bootstrap_option
from pykbroker.cli._letters import parse_age


class _Start(click.ParamType[str]):
    """Where to begin."""

    name = "where"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text not in ("beginning", "end") and not text.removeprefix("-").isdecimal():
            try:
                parse_age(text)
            except ValueError:
                self.fail(
                    f"{text!r}: beginning, end, an offset, -N (the last N) or an age as 15m", param, ctx
                )
        return text


@click.command("consume", short_help="Print the records of topics.")
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True)
@click.option(
    "--from",
    "start",
    type=_Start(),
    default="beginning",
    show_default=True,
    help="beginning, end, an offset, -N (the last N of each partition), or an age as 15m.",
)
@click.option("-p", "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this one.")
@click.option("-n", "--max", "limit", type=click.IntRange(1), help="Stop after this many records.")
@click.option("-f", "--follow", is_flag=True, help="Wait for more at the end, until Ctrl-C.")
@click.option("-g", "--group", help="As a member of this group: go on where it was, and commit.")
@click.option(
    "--exec", "command_line", metavar="COMMAND", help="With --group: run this for each record instead."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("value", "table", "json")),
    default="value",
    show_default=True,
    help="Values, a line each; lines for reading; lines of JSON.",
)
@bootstrap_option
def command(
    topics: tuple[str, ...],
    start: str,
    partitions: tuple[int, ...],
    limit: int | None,
    follow: bool,
    group: str | None,
    command_line: str | None,
    form: str,
    bootstrap: str,
) -> None:
    """Print the records of topics, from their beginning to their end.

    \b
    Examples:
      pykbroker consume orders
      pykbroker consume orders --from -10 --follow --format table
      pykbroker consume orders --from 15m --format json | jq .key

    With --group the partitions are shared with its other members, and what was printed is committed; --from
    holds where the group has committed nothing yet.

    With --exec the shell runs COMMAND for each record, its value as input, with PYKBROKER_TOPIC,
    _PARTITION, _OFFSET, _KEY, _TIMESTAMP_MS and _ATTEMPT in the environment.  Where the group has a
    retry policy, a record for which it fails is nacked, with the last line of its standard error as reason,
    and the retry topic is read too; without one this stops there.

    \b
    A consumer with retries and dead letters, in a line:
      pykbroker groups alter billing --set pykbroker.retry.policy=linear
      pykbroker consume orders --group billing --follow --exec 'grep price='
    """
    if group is not None and partitions:
        raise click.UsageError("--group shares the partitions itself: leave --partition out")
    if command_line is not None and group is None:
        raise click.UsageError("--exec needs --group: what fails is a matter between a group and the broker")
    from pykbroker.cli import _consuming

    wanted = _consuming.Wanted(
        topics=topics,
        partitions=partitions,
        group=group,
        start=start,
        limit=limit,
        follow=follow or start == "end",
        form=form,
        command=command_line,
    )

    ask(bootstrap, lambda client: _consuming.consume(client, wanted))
