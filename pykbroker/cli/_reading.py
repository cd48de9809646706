"""What ``pykbroker dlq list`` and ``show`` do."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from pykbroker.cli import _dead_letters, _letter_text, _settings
from pykbroker.cli._errors import Failed
from pykbroker.cli._letter_text import printable
from pykbroker.cli._letters import Filter, Place

if TYPE_CHECKING:
    from pykbroker.cli._dead_letters import DeadLetters
    from pykbroker.client import Client


async def list_topics(client: Client, wanted: Filter, form: str) -> None:
    on_their_way: list[str] = []

    async def rows() -> AsyncGenerator[Mapping[str, object], None]:
        for topic, role in (await _dead_letters.dead_letter_topics(client)).items():
            if role is not None and wanted.group not in (None, role.group):
                continue
            found = await _dead_letters.dead_letters(client, topic)
            count = sum(each.waiting for each in found.partitions)
            if wanted.reads_letters or (role is None and wanted.group is not None):
                count = (await _dead_letters.choose(client, found, wanted, ())).count
                if not count:
                    continue  # one that has nothing of what is looked for is no find
            newest = await _dead_letters.newest(client, found)
            row: dict[str, object] = {"topic": topic, "origin": None, "group": None}
            if role is not None:
                row |= {"origin": role.origin, "group": role.group}
            row |= {"letters": count, "settled": sum(each.done for each in found.partitions)}
            if form == "json":
                row |= {**found.returning.fields(), "last_failure_ms": newest}
            else:
                row["returning"] = found.returning.letters
                row["last_failure"] = None if newest is None else _letter_text.ago(newest, found.now_ms)
                on_their_way.extend(found.returning.lines(topic))
            yield row

    if not await _letter_text.stream(rows(), form, _echo) and form == "table":
        having = " with letters that match" if wanted.reads_letters else ""
        of = "" if wanted.group is None else f" of group {wanted.group}"
        why = "" if await _settings.is_pykbroker(client) else ": the broker is no pykbroker"
        click.echo(f"no dead-letter topics{of}{having}{why}")
    _say(on_their_way)


def _say(lines: Iterable[str]) -> None:
    for number, line in enumerate(lines):
        click.echo(("" if number else "\n") + printable(line))


async def list_letters(
    client: Client, topic: str, wanted: Filter, settled: bool, limit: int | None, form: str
) -> None:
    found = await _dead_letters.dead_letters(client, topic)
    now = found.now_ms

    async def rows() -> AsyncGenerator[Mapping[str, object], None]:
        count = 0
        async with aclosing(_dead_letters.letters(client, found, settled=settled)) as letters:
            async for letter in letters:
                if wanted.matches(letter, now):
                    count += 1
                    shown = _letter_text.as_json(letter, whole=False)
                    yield shown if form == "json" else _letter_text.row(letter, now)
                    if count == limit:
                        break

    async with aclosing(rows()) as lines:
        count = await _letter_text.stream(lines, form, _echo)
    if form == "table":
        if not count:
            click.echo(nothing(found, wanted, settled))
        _say(found.returning.lines(topic))


def nothing(found: DeadLetters, wanted: Filter, settled: bool, *, named: bool = False) -> str:
    """What a command says when no letter is meant; ``named``: single ones were named."""
    if settled:
        return f"no settled letters in {found.topic}"
    matching = " among those named" if named else ""
    matching += "" if wanted.is_empty else " that match"
    done = sum(each.done for each in found.partitions)
    hidden = f" ({done} were replayed or purged: `list --settled` shows them)" if done else ""
    return f"no letters in {found.topic}{matching}{hidden}"


async def show(client: Client, place: Place, settled: bool, form: str) -> None:
    name = f"{place.topic}/{place.partition}/{place.first}"
    found = await _dead_letters.dead_letters(client, place.topic)
    if not 0 <= place.partition < len(found.partitions):
        raise Failed(f"{place.topic} has {len(found.partitions)} partitions, the first is 0: no {name}")
    partition = found.partitions[place.partition]
    done = place.first in partition.settled
    if done and not settled:
        raise Failed(f"{name} was replayed or purged already", "--settled shows it all the same")
    read = [each async for each in _dead_letters.letters(client, found, settled=done, places=[place])]
    for letter in read:
        if form == "json":
            click.echo(json.dumps({**_letter_text.as_json(letter), "settled": done}, indent=2))
        else:
            click.echo(_letter_text.in_full(letter, found.now_ms, settled=done))
        return
    raise Failed(
        f"there is no letter {name}",
        f"partition {place.partition} has offsets {partition.start} to {partition.end - 1}"
        if partition.end > partition.start
        else f"partition {place.partition} is empty",
    )


def _echo(text: str) -> None:
    click.echo(text, nl=False)
