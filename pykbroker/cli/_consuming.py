"""What ``pykbroker consume`` does: reads partitions, alone or as a member of a group, until told to end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click
import trio

from pykbroker.cli import _dead_letters, _exec, _lines, _retries, _settings
from pykbroker.cli._errors import Failed
from pykbroker.cli._letter_text import printable
from pykbroker.cli._letters import parse_age
from pykbroker.cli._member import Lost, Member
from pykbroker.cli._reader import Place, Reader
from pykbroker.client import Client, ConnectionLost
from pykbroker.client.client import EARLIEST, LATEST, check_code
from pykbroker.errors import KafkaError

if TYPE_CHECKING:
    from pykbroker.records.decode import Record

WAIT_MS: Final = 500
"""How long one fetch waits for more."""
LEAVE_S: Final = 2.0
"""What leaving the group may take."""
AGAIN_S: Final = 1.0
"""Who follows asks a broker that is not there again after this time."""


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


async def consume(client: Client, wanted: Wanted) -> None:
    """Until the end, or SIGINT or SIGTERM.  Raises what commands tell people."""
    work = _alone if wanted.group is None else _in_group
    await _until_told(lambda beside: work(client, wanted, beside))


Beside = Callable[[Callable[[], Awaitable[None]]], None]
"""Runs something for as long as this goes on."""


async def _until_told(work: Callable[[Beside], Awaitable[None]]) -> None:
    """Do ``work`` until it ends or SIGINT or SIGTERM comes; what goes wrong beside it ends it too."""
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
        for place, records in await _read(reader, wanted):
            shown = _before(records, ends, place)[:left]
            _print(place, shown, wanted.form)
            left = None if left is None else left - len(shown)


async def _offset(client: Client, place: Place, start: str) -> int:
    """Where to begin."""
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
    return {place: await client.offset(*place, LATEST) for place in places}


async def _read(reader: Reader, wanted: Wanted) -> list[tuple[Place, list[Record]]]:
    """What is there next; who follows does so through restarts of the broker."""
    try:
        return await reader.read(WAIT_MS)
    except ConnectionLost as error:
        await _again(wanted.follow, error)
        return []


async def _again(wanted: bool, error: ConnectionLost) -> None:
    """Wait a moment and say why; raises ``error`` if that is not ``wanted``."""
    if not wanted:
        raise error
    click.echo(f"{error}: trying again", err=True)
    await trio.sleep(AGAIN_S)


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
        if sys.stdout is not None and sys.stdout.isatty():
            click.echo("\n".join(printable(each.decode("utf-8", "replace")) for each in values))
        else:
            _lines.write(b"\n".join(values) + b"\n")
    else:
        line = _lines.as_json if form == "json" else _lines.as_row
        text = "\n".join(line(*place, each) for each in records) + "\n"
        _lines.write(text.encode("utf-8", "backslashreplace"))


# -- in a group -------------------------------------------------------------------------------------


async def _in_group(client: Client, wanted: Wanted, beside: Beside) -> None:
    assert wanted.group is not None
    member = Member(client, wanted.group, [*wanted.topics, *await _retry_topics(client, wanted)])
    beside(member.heartbeats)
    try:
        await _as_member(client, wanted, member)
    finally:
        with trio.move_on_after(LEAVE_S, shield=True):
            await _leave(member)


async def _leave(member: Member) -> None:
    """As far as can be: else the group misses the member a little later."""
    for _ in range(2):  # what was cancelled may have broken the connection off, and it is made anew
        with suppress(ConnectionLost, KafkaError):
            await member.leave()
            return


async def _as_member(client: Client, wanted: Wanted, member: Member) -> None:
    reader = Reader(client, {})
    ends: Mapping[Place, int] | None = None
    left = wanted.limit
    while left is None or left > 0:
        try:
            if member.stale:
                committed = await member.join()
                reader.positions = {
                    place: offset if offset >= 0 else await _offset(client, place, wanted.start)
                    for place, offset in committed.items()
                }
                ends = None if wanted.follow else await _ends(client, committed)
            if _done(reader, ends):
                return
            for place, records in await reader.read(WAIT_MS):
                due = _before(records, ends, place)[:left]
                done = await _process(client, wanted, member, place, due)
                left = None if left is None else left - done
        except Lost:
            continue
        except ConnectionLost as error:
            await _again(member.joined_once and wanted.follow, error)
            member.stale = True


async def _process(
    client: Client, wanted: Wanted, member: Member, place: Place, records: Sequence[Record]
) -> int:
    """Print and commit, or run the command for each; returns how many were processed.  Raises Lost."""
    if wanted.command is None:
        _print(place, records, wanted.form)
        if records:
            await member.commit({place: (records[-1].offset + 1, "")})
        return len(records)
    for record in records:
        if member.stale:
            raise Lost  # others wait for this one to come to a new assignment
        reason = await _exec.run(wanted.command, *place, record)
        name = f"{place[0]}/{place[1]}/{record.offset}"
        if reason is not None:
            retry_topic = await _retried_in(client, wanted, place[0], f"{name} failed: {reason}")
            member.subscribe(retry_topic)  # no news, unless there was no policy when this began
            click.echo(f"{name} failed: {printable(reason)}", err=True)
        note = "" if reason is None else _exec.nack(record.offset, reason)
        await member.commit({place: (record.offset + 1, note)})
    return len(records)


async def _retry_topics(client: Client, wanted: Wanted) -> list[str]:
    """What has to be read as well for failures to come back."""
    if wanted.command is None or wanted.group is None:
        return []
    await client.metadata(wanted.topics, auto_create=True)
    found = await _retries.failing(client, [(topic, wanted.group) for topic in wanted.topics])
    return [each.settings.retry_topic for each in found if each.retries]


async def _retried_in(client: Client, wanted: Wanted, topic: str, what: str) -> str:
    """Where a failure comes back.  Raises :class:`Failed` where a nack would do nothing: the record would
    be lost to the group."""
    assert wanted.group is not None
    role = (await _dead_letters.roles(client)).get(topic)
    if role is not None and role.kind == "retry" and role.group == wanted.group:
        return topic
    (found,) = await _retries.failing(client, [(topic, wanted.group)])
    if not found.retries:
        await _settings.need_pykbroker(client, f"{what}; it is not committed, for there are no retries")
        raise Failed(
            f"{what}; it is not committed, for {wanted.group} has no retries on {topic}",
            f"`pykbroker groups alter {wanted.group} --set pykbroker.retry.policy=linear` gives it some",
        )
    return found.settings.retry_topic
