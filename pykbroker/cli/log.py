"""``pykbroker log``: look at the files of a data directory, with no broker running on it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykbroker.cli._client import Row, format_option, show
from pykbroker.cli._errors import Failed
from pykbroker.cli._progress import StartProgress

if TYPE_CHECKING:
    from pykbroker.log.dump import Piece
    from pykbroker.log.report import Report

CHECK_HELP = """\
Read everything in the data directory DIR and say what is wrong with it. Changes nothing.

\b
  pykbroker log check /var/lib/pykbroker
  pykbroker log check --format json /backup/pykbroker | jq '.problems[].what'

A problem should not be: records are lost, or a file says what is not so. Exit status 1.
A note may be: what the next start puts right by itself after a crash, leftovers, unknown files.

Every record is read, about a million in three seconds. A directory that a broker uses is refused, since
what is being written looks torn: stop the broker, or check a snapshot of the file system. To see what is
left of a damaged batch, `pykbroker log dump` the file that a problem names.
"""

DUMP_HELP = """\
Print the batches in segment files: one line for each, or for bytes that are no batch.

\b
  pykbroker log dump data/orders-0/00000000000000000000.log
  pykbroker log dump --records --format json data/orders-0/*.log | jq -r '.[].records[]?.value'

OFFSETS are those the batch covers; compaction takes records and leaves that range. PRODUCER is
id/epoch/first sequence of an idempotent producer. CRC says BAD for a batch that was changed after it
was written. May be used beside a running broker: then the last line may be a batch half written.
"""

_FLAGS = (("is_transactional", "transactional"), ("is_control", "control"), ("log_append", "append-time"))


@click.group("log", short_help="Check a data directory, dump its files.")
def command() -> None:
    """Look at the files of a data directory: check all of it, or dump the batches of some."""


@command.command(help=CHECK_HELP, short_help="Say what is wrong with a data directory.")
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@format_option
@click.pass_context
def check(context: click.Context, directory: Path, form: str) -> None:
    from pykbroker._datadir import StartError, unused
    from pykbroker.partitions.check import check as check_all

    try:
        with unused(directory), StartProgress() as progress:
            report = check_all(directory, progress)
    except StartError as error:
        raise Failed(str(error), "Stop it first: what is being written looks torn") from error
    except OSError as error:
        raise Failed(f"{error.filename or directory} cannot be read: {error.strerror}") from error
    click.echo(_as_json(report) if form == "json" else "\n".join(_as_text(report)))
    if report.problems:
        context.exit(1)


def _as_json(report: Report) -> str:
    def rows(kind: str) -> list[Row]:
        return [
            {"path": str(each.path), "position": each.position, "what": each.what}
            for of, each in report
            if of == kind
        ]

    counts = {
        name: getattr(report, name) for name in ("partitions", "segments", "batches", "records", "bytes")
    }
    return json.dumps({"problems": rows("problem"), "notes": rows("note"), **counts}, indent=2)


def _as_text(report: Report) -> Iterator[str]:
    for kind, each in report:
        yield f"{click.style(kind, fg='red' if kind == 'problem' else 'yellow')}: {each}"
    count = len(report.problems)
    verdict = f"{count} problem{'s' if count > 1 else ''}" if count else "sound"
    yield (
        f"{click.style(verdict, bold=True)}: {report.partitions} partitions, {report.segments} segments, "
        f"{report.batches} batches, {report.records} records, {report.bytes} bytes"
    )


@command.command(help=DUMP_HELP, short_help="Print the batches in segment files.")
@click.argument(
    "paths",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--records", is_flag=True, help="Print the records of each batch too.")
@format_option
def dump(paths: Sequence[Path], records: bool, form: str) -> None:
    from pykbroker.log.dump import pieces

    wrong = [path for path in paths if path.suffix not in (".log", ".checkpoint", ".cleaned", ".deleted")]
    if wrong:
        raise click.UsageError(f"{wrong[0]} holds no batches: give a .log file")
    try:
        if form == "json":
            _print_array(
                {"file": str(path), **_row(each, records)} for path in paths for each in pieces(path)
            )
            return
        for path in paths:
            click.echo(path)
            for block in _blocks(pieces(path)):
                _print_block(block, records)
    except OSError as error:
        raise Failed(f"{error.filename} cannot be read: {error.strerror}") from error


def _row(piece: Piece, records: bool) -> dict[str, object]:
    """A piece for a program."""
    row: dict[str, object] = {"position": piece.position, "size": piece.size, "fault": piece.fault or None}
    header = piece.header
    if header is None:
        return row
    row |= {"base_offset": header.base_offset, "last_offset": header.last_offset}
    row |= {
        "records": header.record_count,
        "leader_epoch": header.leader_epoch,
        "codec": _codec(header.codec),
    }
    row |= {"producer_id": header.producer_id, "producer_epoch": header.producer_epoch}
    row |= {"base_sequence": header.base_sequence, "max_timestamp": header.max_timestamp}
    row |= {attribute: getattr(header, attribute) for attribute, _ in _FLAGS}
    row["crc_ok"] = piece.crc_ok
    if records:
        row["records"], row["fault"] = _records(piece)
    return row


def _line(piece: Piece) -> Row:
    """A piece for a person."""
    row = _row(piece, records=False)
    header = piece.header
    if header is None:
        head = {"offsets": None, "records": None, "epoch": None, "codec": None, "producer": None}
        return {"position": piece.position, "size": piece.size, **head, "crc": None, "what": piece.fault}
    named = header.producer_id >= 0
    return {
        "position": piece.position,
        "size": piece.size,
        "offsets": f"{header.base_offset}-{header.last_offset}",
        "records": header.record_count,
        "epoch": header.leader_epoch,
        "codec": row["codec"],
        "producer": f"{header.producer_id}/{header.producer_epoch}/{header.base_sequence}" if named else None,
        "crc": "ok" if piece.crc_ok else "BAD",
        "what": ",".join(word for attribute, word in _FLAGS if row[attribute]),
    }


def _codec(number: int) -> str:
    from pykbroker.records.compression import Codec

    return Codec(number).name.lower() if number in set(Codec) else f"codec {number}"


def _records(piece: Piece) -> tuple[list[Row], str | None]:
    """The records that can be read, and why the rest cannot."""
    from pykbroker.records.batch import BatchError
    from pykbroker.records.decode import iter_records

    rows: list[Row] = []
    try:
        for record in iter_records(piece.data):
            rows.append(
                {
                    "offset": record.offset,
                    "timestamp": record.timestamp,
                    "key": _text(record.key),
                    "value": _text(record.value),
                    "headers": [[name.encode(errors="surrogateescape").decode(errors="replace"), _text(value)]
                                for name, value in record.headers],
                }
            )  # fmt: skip
    except BatchError as error:
        return rows, f"records cannot be read: {error}"
    return rows, None


def _text(data: bytes | None) -> str | None:
    """Bytes for a reader; what is not UTF-8 shows as ``\\xNN``."""
    return None if data is None else data.decode("utf-8", "backslashreplace")


_BLOCK = 1000
"""Lines aligned to each other: a file of any size streams."""


def _blocks(found: Iterable[Piece]) -> Iterator[list[Piece]]:
    block: list[Piece] = []
    for each in found:
        block.append(each)
        if len(block) == _BLOCK:
            yield block
            block = []
    if block:
        yield block


def _print_block(block: list[Piece], records: bool) -> None:
    if not records:
        show([_line(each) for each in block], "table")
        return
    for each in block:
        show([_line(each)], "table")
        rows, fault = _records(each) if each.header is not None else ([], None)
        for row in rows:
            click.echo("  " + json.dumps(row, ensure_ascii=False))
        if fault is not None:
            click.echo(f"  {fault}")


def _print_array(rows: Iterable[Row]) -> None:
    """A JSON array, row by row."""
    begin = "["
    for row in rows:
        click.echo(f"{begin}\n  {json.dumps(row)}", nl=False)
        begin = ","
    click.echo("[]" if begin == "[" else "\n]")
