"""Replay and purge: commits of the reserved group ``pykbroker.dlq`` on the partitions of a dead-letter topic.

The broker checks and executes them like a nack, and counts a letter once: what is sent again settles nothing
again.  They leave piece by piece, so that whoever interrupts has settled only what was sent.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pykbroker.cli import _dead_letters, _reading
from pykbroker.cli._dead_letters import Chosen, DeadLetters, roles, settings
from pykbroker.cli._errors import Failed
from pykbroker.cli._letter_text import printable
from pykbroker.cli._letters import Filter, Piece, Place, pieces
from pykbroker.cli._progress import CountProgress
from pykbroker.cli._settings import need_pykbroker

if TYPE_CHECKING:
    from pykbroker.catalog.retrying import Role
    from pykbroker.client import Client

GROUP = "pykbroker.dlq"
EXCHANGE = "pykbroker.exchange.type"
PIECE = 1000
"""Letters that one commit settles at most: what an interruption may still let pass."""

PATIENCE_S = 10.0
"""How long a command waits until the broker has moved what was asked for; it goes on without us."""


@dataclass
class Tally:
    """How far a command has come, also where it was interrupted."""

    total: int
    done: int = 0
    under_way: int = 0
    """Sent, and not answered yet."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be done with the letters that were chosen."""

    action: str
    """``replay`` or ``purge``."""
    to: str | None = None
    rate: float | None = None
    """Letters a second, over all partitions."""

    @property
    def past(self) -> str:
        """``replayed`` or ``purged``."""
        return self.action.removesuffix("e") + "ed"

    @property
    def more(self) -> dict[str, object]:
        """What the metadata says beside the ranges."""
        said: dict[str, object] = {"to": self.to, "rate": self.rate}
        if self.rate is not None and self.rate.is_integer():
            said["rate"] = int(self.rate)
        return {name: value for name, value in said.items() if value is not None}

    @property
    def most(self) -> int:
        """Letters in one piece: with a rate, those of about one second."""
        return PIECE if self.rate is None else max(1, min(PIECE, int(self.rate)))


async def settle_named(
    client: Client, letters: Sequence[str], wanted: Filter, order: Order, tally: Tally, yes: bool
) -> None:
    """Settle the letters that the words of a command name (all of a topic, or places) and a filter leaves.

    Asks first unless ``yes``.  Raises :class:`Failed`, ``click.Abort``.
    """
    await need_pykbroker(client, f"nothing is {order.past}")
    found: list[Chosen] = []
    for topic, places in _by_topic(letters).items():
        has = await _dead_letters.dead_letters(client, topic)
        if has.role is not None and has.role.kind == "retry":
            raise Failed(
                f"{topic} is the retry topic of group {has.role.group}, it has no dead letters",
                f"`pykbroker dlq list --group {shlex.quote(has.role.group)}` shows where they are",
            )
        if order.action == "replay":
            for line in has.returning.lines(topic):
                click.echo(printable(line))
        chosen = await _dead_letters.choose(client, has, wanted, places)
        if not chosen.count:
            said = _reading.nothing(has, wanted, settled=False, named=bool(places))
            click.echo(f"nothing to {order.action}: {said}")
            continue
        if chosen.homeless and order.action == "replay" and order.to is None:
            raise Failed(
                f"{chosen.homeless} of {_letters(chosen.count)} in {topic} do not say where they came from",
                "Say where they shall go: --to TOPIC",
            )
        found.append(chosen)
        tally.total += chosen.count
    if not found:
        return
    topics = ", ".join(each.found.topic for each in found)
    home = "where it came from" if tally.total == 1 else "where they came from"
    aim = f" to {order.to or home}" if order.action == "replay" else ""
    if not yes:
        what = order.action.capitalize()
        click.confirm(f"{what} {_letters(tally.total)} of {topics}{aim}?", abort=True)
    await settle(client, found, order, tally)
    click.echo(f"{order.past} {_letters(tally.total)} of {topics}{aim}")
    if not await _wait_settled(client, found):
        click.echo("the broker is still at it, and goes on by itself", err=True)


async def purge_all(client: Client, topics: Sequence[str], yes: bool) -> None:
    """Delete all records of these topics, after asking unless ``yes``."""
    from pykbroker.client.calls import delete_records

    found = [await _dead_letters.dead_letters(client, topic) for topic in topics]
    for each in found:
        await _check_only_letters(client, each)
    partitions = [(each.topic, partition) for each in found for partition in each.partitions]
    count = sum(partition.end - partition.start for _, partition in partitions)
    names = ", ".join(topics)
    if not count:
        click.echo(f"nothing to purge: no letters in {names}")
        return
    if not yes:
        click.confirm(f"Delete all {_letters(count)} of {names}, settled ones too?", abort=True)
    for topic, partition in partitions:
        if partition.end > partition.start:
            await delete_records(client, topic, partition.index, partition.end)
    click.echo(f"purged all {_letters(count)} of {names}")


async def _check_only_letters(client: Client, found: DeadLetters) -> None:
    """Raise :class:`Failed` where something else would be deleted: a name is mistyped easily."""
    if found.role is not None and found.role.kind == "dlq":
        return
    async with aclosing(_dead_letters.letters(client, found)) as read:
        async for letter in read:
            if letter.group is None or found.role is not None:
                raise Failed(
                    f"{letter.name} is no dead letter, nothing is deleted in {found.topic}",
                    "`pykbroker dlq list` shows the dead-letter topics there are",
                )


def _by_topic(letters: Sequence[str]) -> dict[str, list[Place]]:
    """What the words of a command name: whole topics (an empty list) or letters of one."""
    by_topic: dict[str, list[Place]] = {}
    for word in letters:
        place = Place.parse(word)
        if place is not None:
            by_topic.setdefault(place.topic, []).append(place)
        elif "/" in word:
            raise click.UsageError(f"{word} is no letter: write TOPIC/PARTITION/OFFSET, or FIRST-LAST")
    return by_topic | {word: [] for word in letters if "/" not in word}


def _letters(count: int) -> str:
    return f"{count} letter" + ("" if count == 1 else "s")


async def settle(client: Client, chosen: Sequence[Chosen], order: Order, tally: Tally) -> None:
    """Send it all, at the order's rate; raises :class:`Failed` where the broker says no."""
    import trio

    from pykbroker.client.calls import commit
    from pykbroker.errors import ErrorCode, KafkaError

    due = trio.current_time()
    with CountProgress(f"{order.action.removesuffix('e')}ing", tally.total) as bar:
        for each, partition, piece in _all_pieces(chosen, order):
            await trio.sleep_until(due)
            sent = trio.current_time()
            tally.under_way = piece.count
            try:
                end = each.end(partition)
                await commit(client, GROUP, each.found.topic, partition, end, piece.metadata)
            except KafkaError as error:
                if error.code != ErrorCode.INVALID_REQUEST:
                    raise
                raise await _refused(client, each, order, tally) from error
            tally.done += piece.count
            tally.under_way = 0
            due = sent if order.rate is None else sent + piece.count / order.rate
            bar(tally.done)


def _all_pieces(chosen: Sequence[Chosen], order: Order) -> Iterator[tuple[Chosen, int, Piece]]:
    for each in chosen:
        for partition, ranges in each.ranges.items():
            for piece in pieces(order.action, ranges, order.more, most=order.most):
                yield each, partition, piece


async def _wait_settled(client: Client, chosen: Sequence[Chosen]) -> bool:
    """Whether the broker lists all of them as settled before patience ends."""
    import trio

    with trio.move_on_after(PATIENCE_S) as scope:
        while not all([await _is_settled(client, each) for each in chosen]):  # noqa: ASYNC110
            await trio.sleep(0.02)
    return not scope.cancelled_caught


async def _is_settled(client: Client, chosen: Chosen) -> bool:
    settled = await _dead_letters.settled_letters(client, chosen.found.topic)
    return all(
        partition in settled and settled[partition].covers(ranges)
        for partition, ranges in chosen.ranges.items()
    )


async def _refused(client: Client, chosen: Chosen, order: Order, tally: Tally) -> Failed:
    """Why the broker may have refused: an answer to a commit has room for a code only."""
    topic = chosen.found.topic
    done = f" ({tally.done} of {tally.total} letters were done before)" if tally.done else ""
    why = await _why(client, topic, chosen.found.role, order)
    first = "" if why else "The broker's log says why. "
    return Failed(
        f"the broker refuses to {order.action} letters of {topic}{done}" + (f": {why}" if why else ""),
        f"{first}Repeat the command when that is put right: nothing is done twice.",
    )


async def _why(client: Client, topic: str, role: Role | None, order: Order) -> str:
    """Why the broker may have refused; "" where only its log can tell."""
    to = order.to or (role.origin if role else None)
    if order.action == "purge" or to is None:
        return ""
    if to == topic:
        return f"{to} is the dead-letter topic itself, say another topic with --to"
    there = {each.name: each.is_internal for each in (await client.metadata()).topics}
    if to not in there:
        return f"there is no topic {to}: create it, or say another one with --to"
    if there[to]:
        return f"{to} belongs to the broker, say another topic with --to"
    has = (await roles(client)).get(to)
    if has is not None:
        kind = "dead-letter" if has.kind == "dlq" else "retry"
        return f"{to} is the {kind} topic of group {has.group}, say another topic with --to"
    if (await settings(client, [to], EXCHANGE)).get(to, {}).get(EXCHANGE):
        return (
            f"{to} is an exchange that leads back into {topic} or a retry topic, say another topic with --to"
        )
    return ""
