"""``pykbroker produce``: records from options or from lines of standard input."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from pykbroker.cli import _lines
from pykbroker.cli._client import Row, ask, bootstrap_option, format_option, refused, show
from pykbroker.cli._errors import Failed
from pykbroker.cli._keys import partition_of

if TYPE_CHECKING:
    from pykbroker.client import Client
    from pykbroker.records.build import RecordData

READ_BYTES: Final = 256 * 1024
"""What is read at one time, and so about the size of a batch."""
BATCH_BYTES: Final = 512 * 1024
BATCH_RECORDS: Final = 5_000
CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True, kw_only=True)
class Template:
    """How a line becomes a record."""

    key: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    separator: bytes | None
    json: bool

    def record(self, line: bytes) -> RecordData:
        """Raises :class:`~pykbroker.cli._lines.NoRecord`."""
        from pykbroker.records.build import RecordData

        if self.json:
            found = _lines.of_json(line)
            return found._replace(headers=[*found.headers, *self.headers])
        key = self.key
        if self.separator is not None:
            key, there, line = line.partition(self.separator)
            if not there:
                raise _lines.NoRecord(f"--key-separator {self.separator.decode()!r} is not in it")
        return RecordData(key=key, value=line, headers=self.headers)


@click.command("produce", short_help="Produce records, from options or lines.")
@click.argument("topic")
@click.option("-v", "--value", "values", metavar="TEXT", multiple=True, help="A value; may be repeated.")
@click.option("--tombstone", is_flag=True, help="One record without a value: deletes --key when compacted.")
@click.option("-k", "--key", metavar="TEXT", help="The key of every record.")
@click.option(
    "-H", "--header", "headers", metavar="NAME=VALUE", multiple=True, help="A header of every record."
)
@click.option("-K", "--key-separator", metavar="TEXT", help="Lines are a key, this, and a value.")
@click.option(
    "--json", "as_json", is_flag=True, help="Lines are JSON, as `consume --format json` prints them."
)
@click.option("-p", "--partition", type=click.IntRange(0), help="The partition.  [by the key, else any]")
@click.option("-z", "--compression", type=click.Choice(CODECS), default="none", show_default=True)
@bootstrap_option
@format_option
def command(
    topic: str,
    values: tuple[str, ...],
    tombstone: bool,
    key: str | None,
    headers: tuple[str, ...],
    key_separator: str | None,
    as_json: bool,
    partition: int | None,
    compression: str,
    bootstrap: str,
    form: str,
) -> None:
    """Produce records to TOPIC: the values given, else each line of standard input.

    Each is acknowledged by all replicas (acks=all) before the command ends.  Records of one key get to
    the partition where Kafka's clients put them.

    \b
    Examples:
      pykbroker produce orders --value 'price=5' --key customer-1
      pykbroker produce orders -H kind=test < orders.txt
      pykbroker produce orders --key-separator : <<< 'customer-1:price=5'
      pykbroker produce reminders --value 'in a minute' -H pykbroker-delay-ms=60000
      pykbroker consume orders --format json | pykbroker produce copy --json
    """
    if (key is not None) + (key_separator is not None) + as_json > 1:
        raise click.UsageError("give one of --key, --key-separator, --json: each says what the key is")
    if (values or tombstone) and (as_json or key_separator is not None):
        raise click.UsageError("--json and --key-separator are for lines: leave --value and --tombstone out")
    if key_separator == "":
        raise click.UsageError("--key-separator must not be empty")
    if not (values or tombstone) and sys.stdin is None:
        raise click.UsageError("standard input is closed: give --value TEXT, or lines as input")
    template = Template(
        key=None if key is None else key.encode("utf-8", "surrogateescape"),
        headers=_headers(headers),
        separator=None if key_separator is None else key_separator.encode("utf-8", "surrogateescape"),
        json=as_json,
    )

    sendings: list[Sending] = []

    async def story(client: Client) -> list[Sent]:
        partitions = await _partitions(client, topic)
        if partition is not None and partition >= partitions:
            raise Failed(f"{topic} has no partition {partition}, but 0 to {partitions - 1}")
        sending = Sending(client, topic, partition, compression, partitions)
        sendings.append(sending)
        with sending.told():
            if values or tombstone:
                await sending.send(_given(template, values, tombstone))
            else:
                async with aclosing(_from_lines(template, sys.stdin.buffer)) as lines:
                    async for records in lines:
                        await sending.send(records)
        return sorted(sending.sent.values(), key=lambda each: each.partition)

    try:
        sent = ask(bootstrap, story)
    except KeyboardInterrupt:
        count = sum(sending.count for sending in sendings)
        raise Failed(f"interrupted; records that were produced before: {count}") from None
    if form == "json":
        show([each.row() for each in sent], form)
    else:
        _tell(topic, sent)


def _headers(texts: Sequence[str]) -> list[tuple[str, bytes | None]]:
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not equals or not name:
            raise click.UsageError(f"--header {name}{value}: must be NAME=VALUE")
    return [(name, value.encode("utf-8", "surrogateescape")) for name, _, value in pairs]


def _given(template: Template, values: Sequence[str], tombstone: bool) -> list[RecordData]:
    found = [template.record(value.encode("utf-8", "surrogateescape")) for value in values]
    return [*found, template.record(b"")._replace(value=None)] if tombstone else found


async def _partitions(client: Client, topic: str) -> int:
    """How many the topic has; it is made if the broker makes topics that are asked for."""
    import trio

    from pykbroker.client.client import check_code
    from pykbroker.errors import ErrorCode

    passing = (ErrorCode.LEADER_NOT_AVAILABLE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    for _ in range(10):
        (found,) = (await client.metadata([topic], auto_create=True)).topics
        if found.error_code not in passing:
            break
        await trio.sleep(0.1)  # one that was made just now
    check_code(found.error_code, topic)
    return len(found.partitions)


async def _from_lines(template: Template, lines: BinaryIO) -> AsyncGenerator[list[RecordData], None]:
    """The records of what was read at one time: at a terminal, of one line."""
    import trio

    if sys.stdin.isatty():
        click.echo("One record a line; Ctrl-D ends.", err=True)
    read = _reader(lines)
    rest, number = b"", 0
    while True:
        data = await trio.to_thread.run_sync(read, READ_BYTES, abandon_on_cancel=True)
        *whole, rest = (rest + data).split(b"\n") if data else ([rest, b""] if rest else [b""])
        records: list[RecordData] = []
        for line in whole:
            number += 1
            try:
                records.append(template.record(line))
            except _lines.NoRecord as error:
                if records:
                    yield records
                done = f"The {number - 1} before it were produced" if number > 1 else ""
                raise Failed(f"line {number}: {error}", done) from None
        if records:
            yield records
        if not data:
            return


def _reader(lines: BinaryIO) -> Callable[[int], bytes]:
    """Reads what is there.  Not from a buffer where there is a descriptor: Ctrl-C leaves a thread waiting,
    and Python ends with a fatal error when that has the lock of a buffer."""
    try:
        descriptor = lines.fileno()
    except OSError:
        return getattr(lines, "read1", lines.read)
    return lambda size: os.read(descriptor, size)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What one partition has acknowledged; offsets are -1 where a record's place is not known yet."""

    partition: int
    records: int
    first_offset: int
    last_offset: int

    def row(self) -> Row:
        """For programs."""
        known = self.first_offset >= 0
        return {
            "partition": self.partition if known else None,
            "records": self.records,
            "first_offset": self.first_offset if known else None,
            "last_offset": self.last_offset if known else None,
        }


class Sending:
    """Sends records to one topic, in batches; what is acknowledged is in ``sent``."""

    def __init__(
        self, client: Client, topic: str, partition: int | None, compression: str, partitions: int
    ) -> None:
        from pykbroker.records.compression import CODEC_NAMES

        self._client = client
        self._topic = topic
        self._partition = partition
        self._codec = CODEC_NAMES[compression]
        self._partitions = partitions
        self._turn = time.time_ns()
        self.sent: dict[int, Sent] = {}

    @property
    def count(self) -> int:
        """Records that were acknowledged."""
        return sum(each.records for each in self.sent.values())

    @contextmanager
    def told(self) -> Iterator[None]:
        """When the broker refuses something, say how much it has already."""
        from pykbroker.errors import KafkaError

        try:
            yield
        except KafkaError as error:
            if not (count := self.count):
                raise
            told = refused(error)
            before = f"Records that were produced before: {count}"
            raise Failed(str(told), f"{before}.  {told.hint}" if told.hint else before) from error

    async def send(self, records: Sequence[RecordData]) -> None:
        """Send them, those of a partition in order.  Raises KafkaError."""
        for partition, several in self._by_partition(records).items():
            batch: list[RecordData] = []
            size = 0
            for each in several:
                bytes_ = len(each.key or b"") + len(each.value or b"") + 64
                if batch and (size + bytes_ > BATCH_BYTES or len(batch) == BATCH_RECORDS):
                    await self._send(partition, batch)
                    batch, size = [], 0
                batch.append(each)
                size += bytes_
            await self._send(partition, batch)

    def _by_partition(self, records: Sequence[RecordData]) -> Mapping[int, list[RecordData]]:
        found: dict[int, list[RecordData]] = {}
        self._turn += 1  # records without a key go to another partition each time that some are sent
        for each in records:
            partition = self._partition
            if partition is None:
                keyless = self._turn % self._partitions
                partition = keyless if each.key is None else partition_of(each.key, self._partitions)
            found.setdefault(partition, []).append(each)
        return found

    async def _send(self, partition: int, records: Sequence[RecordData]) -> None:
        from pykbroker.records.build import encode_batch

        now_ms = time.time_ns() // 1_000_000
        batch = encode_batch(records, timestamp_ms=now_ms, codec=self._codec)
        answer = await self._client.produce(self._topic, partition, batch)
        assert answer is not None
        first, last = answer.base_offset, answer.base_offset + len(records) - 1
        before = self.sent.get(partition)
        self.sent[partition] = (
            Sent(partition=partition, records=len(records), first_offset=first, last_offset=last)
            if before is None
            else replace(before, records=before.records + len(records), last_offset=last)
        )


def _tell(topic: str, sent: Sequence[Sent]) -> None:
    count = sum(each.records for each in sent)
    if count == 1 and sent[0].first_offset >= 0:
        click.echo(
            f"produced 1 record to {topic}: partition {sent[0].partition}, offset {sent[0].first_offset}"
        )
    else:
        click.echo(f"produced {count} record{'' if count == 1 else 's'} to {topic}")
