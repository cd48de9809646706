"""``pykbroker consume``: print what topics have, alone or as a member of a group."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from pykbroker.cli import _lines
from pykbroker.cli._client import ask, bootstrap_option
from pykbroker.cli._errors import Failed
from pykbroker.cli._letter_text import printable
from pykbroker.cli._letters import parse_age

if TYPE_CHECKING:
    from pykbroker.cli._member import Member
    from pykbroker.cli._reader import Place, Reader
    from pykbroker.client import Client
    from pykbroker.records.decode import Record

WAIT_MS: Final = 500
"""How long one fetch waits for more."""


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


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What was asked for."""

    topics: Sequence[str]
    partitions: Sequence[int]
    group: str | None
    start: str
    limit: int | None
    follow: bool
    form: str
    command: str | None


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
    wanted = Wanted(
        topics=topics,
        partitions=partitions,
        group=group,
        start=start,
        limit=limit,
        follow=follow or start == "end",
        form=form,
        command=command_line,
    )

    async def story(client: Client) -> None:
        consume = _alone if group is None else _in_group
        await _until_told(lambda beside: consume(client, wanted, beside))

    ask(bootstrap, story)


Beside = Callable[[Callable[[], Awaitable[None]]], None]
"""Runs something for as long as this goes on."""


async def _until_told(work: Callable[[Beside], Awaitable[None]]) -> None:
    """Do ``work`` until it ends or SIGINT or SIGTERM comes; what goes wrong beside it ends it too."""
    import trio

    from pykbroker.client import ConnectionLost
    from pykbroker.errors import KafkaError

    told_here = (KafkaError, ConnectionLost, Failed, click.ClickException, OSError, ValueError)
    failures: list[Exception] = []

    async def told() -> None:
        import signal

        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return

    async def guarded(function: Callable[[], Awaitable[None]]) -> None:
        try:
            await function()
        except told_here as error:  # raised again below, outside of the nursery, which would wrap it
            failures.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        if threading.current_thread() is threading.main_thread():
            nursery.start_soon(told)
        await guarded(lambda: work(lambda function: nursery.start_soon(guarded, function)))
        nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]


async def _alone(client: Client, wanted: Wanted, beside: Beside) -> None:
    from pykbroker.cli._reader import Reader
    from pykbroker.client.client import check_code

    places: list[Place] = []
    for found in (await client.metadata(wanted.topics)).topics:
        check_code(found.error_code, found.name)
        there = {each.partition_index for each in found.partitions}
        for missing in sorted(set(wanted.partitions) - there):
            raise Failed(f"{found.name} has no partition {missing}, but 0 to {max(there)}")
        places += [(found.name or "", number) for number in sorted(set(wanted.partitions) or there)]
    reader = Reader(client, {place: await _offset(client, place, wanted.start) for place in places})
    ends = None if wanted.follow else await _ends(client, places)
    left = wanted.limit
    while (left is None or left > 0) and not _done(reader, ends):
        for place, records in await reader.read(WAIT_MS):
            shown = _before(records, ends, place)[:left]
            _print(place, shown, wanted.form)
            left = None if left is None else left - len(shown)


async def _offset(client: Client, place: Place, start: str) -> int:
    """Where to begin."""
    from pykbroker.client.client import EARLIEST, LATEST

    if start in ("beginning", "end"):
        return await client.offset(*place, EARLIEST if start == "beginning" else LATEST)
    if start.isdecimal():
        return int(start)
    if start.startswith("-"):
        first, end = await client.offset(*place, EARLIEST), await client.offset(*place, LATEST)
        return max(first, end + int(start))
    found = await client.offset(*place, time.time_ns() // 1_000_000 - parse_age(start))
    return found if found >= 0 else await client.offset(*place, LATEST)


async def _ends(client: Client, places: Iterable[Place]) -> dict[Place, int]:
    from pykbroker.client.client import LATEST

    return {place: await client.offset(*place, LATEST) for place in places}


def _done(reader: Reader, ends: Mapping[Place, int] | None) -> bool:
    return ends is not None and all(reader.positions[place] >= end for place, end in ends.items())


def _before(records: Sequence[Record], ends: Mapping[Place, int] | None, place: Place) -> Sequence[Record]:
    """What was there when reading began; the rest is for those who follow."""
    return records if ends is None else [each for each in records if each.offset < ends[place]]


def _print(place: Place, records: Sequence[Record], form: str) -> None:
    if not records:
        return
    if form == "value":
        values = [each.value or b"" for each in records]
        if sys.stdout.isatty():
            click.echo("\n".join(printable(each.decode("utf-8", "replace")) for each in values))
        else:
            click.echo(b"\n".join(values))
    else:
        line = _lines.as_json if form == "json" else _lines.as_row
        click.echo("\n".join(line(*place, each) for each in records))


# -- in a group -------------------------------------------------------------------------------------


async def _in_group(client: Client, wanted: Wanted, beside: Beside) -> None:
    import trio

    from pykbroker.cli._member import Member

    assert wanted.group is not None
    member = Member(client, wanted.group, [*wanted.topics, *await _retry_topics(client, wanted)])
    beside(member.heartbeats)
    try:
        await _as_member(client, wanted, member)
    finally:
        with trio.move_on_after(2, shield=True):
            await member.leave()


async def _as_member(client: Client, wanted: Wanted, member: Member) -> None:
    from pykbroker.cli._member import Lost
    from pykbroker.cli._reader import Reader

    reader = Reader(client, {})
    ends: Mapping[Place, int] | None = None
    left = wanted.limit
    while left is None or left > 0:
        if member.stale:
            committed = await member.join()
            reader.positions = {
                place: offset if offset >= 0 else await _offset(client, place, wanted.start)
                for place, offset in committed.items()
            }
            ends = None if wanted.follow else await _ends(client, committed)
        if _done(reader, ends):
            return
        try:
            for place, records in await reader.read(WAIT_MS):
                due = _before(records, ends, place)[:left]
                done = await _process(client, wanted, member, place, due)
                left = None if left is None else left - done
        except Lost:
            continue


async def _process(
    client: Client, wanted: Wanted, member: Member, place: Place, records: Sequence[Record]
) -> int:
    """Print and commit, or run the command for each; returns how many were processed.  Raises Lost."""
    from pykbroker.cli import _exec

    if wanted.command is None:
        _print(place, records, wanted.form)
        if records:
            await member.commit({place: (records[-1].offset + 1, "")})
        return len(records)
    for record in records:
        reason = await _exec.run(wanted.command, *place, record)
        name = f"{place[0]}/{place[1]}/{record.offset}"
        if reason is not None:
            await _check_retried(client, wanted, place[0], f"{name} failed: {reason}")
            click.echo(f"{name} failed: {printable(reason)}", err=True)
        note = "" if reason is None else _exec.nack(record.offset, reason)
        await member.commit({place: (record.offset + 1, note)})
    return len(records)


async def _retry_topics(client: Client, wanted: Wanted) -> list[str]:
    """What has to be read as well for failures to come back."""
    from pykbroker.cli import _retries

    if wanted.command is None or wanted.group is None:
        return []
    await client.metadata(wanted.topics, auto_create=True)
    found = await _retries.failing(client, [(topic, wanted.group) for topic in wanted.topics])
    return [each.settings.retry_topic for each in found if each.retries]


async def _check_retried(client: Client, wanted: Wanted, topic: str, what: str) -> None:
    """Raise :class:`Failed` where a nack would do nothing: the record would be lost to the group."""
    from pykbroker.cli import _dead_letters, _retries

    assert wanted.group is not None
    role = (await _dead_letters.roles(client)).get(topic)
    if role is not None and role.kind == "retry" and role.group == wanted.group:
        return
    (found,) = await _retries.failing(client, [(topic, wanted.group)])
    if not found.retries:
        raise Failed(
            f"{what}; it is not committed, for {wanted.group} has no retries on {topic}",
            f"`pykbroker groups alter {wanted.group} --set pykbroker.retry.policy=linear` gives it some",
        )
