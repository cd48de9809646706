"""The catalog in a data directory, read as a start would read it, without changing a byte.

The log itself is checked like any other (:mod:`pykbroker.log.check`); here it is whether snapshot and
changes decode, fit on each other, and belong to this cluster.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pykbroker.catalog import snapshot
from pykbroker.catalog.changes import Conflict, decode
from pykbroker.catalog.draft import Draft
from pykbroker.catalog.image import Image
from pykbroker.log.files import Files
from pykbroker.log.report import Report
from pykbroker.log.segment import LOG
from pykbroker.records.batch import BatchError, BatchHeader, crc_ok, iter_headers
from pykbroker.records.decode import iter_records


def check_catalog(directory: Path, report: Report, cluster_id: str | None) -> Image | None:
    """What exists, by the catalog in ``directory``; None when it cannot be told.

    ``cluster_id``: whose it must be, if that is known.  Raises :class:`OSError`.
    """
    files = Files()
    begin, image = 0, Image(cluster_id=cluster_id or "")
    for number, (offset, path) in enumerate(snapshot.found_in(directory, files).items()):
        if number:
            report.note(path, "an older snapshot; the next one removes it")
            continue
        try:
            begin, image = offset, snapshot.read(path, files)
        except snapshot.SnapshotError as error:
            report.problem(path, str(error).removeprefix(f"{path} "))
            return None
        if cluster_id is not None and image.cluster_id != cluster_id:
            report.problem(path, f"belongs to cluster {image.cluster_id}, not {cluster_id}")
    return _replay(directory, report, begin, image)


def _replay(directory: Path, report: Report, begin: int, image: Image) -> Image | None:
    draft, expected = Draft(image), begin
    for path, position, header, data in _batches(directory):
        if header.last_offset < begin:
            continue
        if header.base_offset != expected and not header.base_offset < begin <= header.last_offset:
            report.problem(path, f"offset {expected} is missing", position)
            return None
        expected = header.next_offset
        try:
            for record in iter_records(data, position):
                if record.offset >= begin:
                    draft.apply(decode(record.value or b""))
        except (BatchError, ValueError, KeyError, TypeError, Conflict) as error:
            report.problem(
                path, f"a change at offset {header.base_offset} cannot be applied: {error}", position
            )
            return None
    return draft.finish()


def _batches(directory: Path) -> Iterator[tuple[Path, int, BatchHeader, bytes]]:
    """The good batches of the log: what is damaged has been reported, and shows as a gap."""
    for path in sorted(directory.glob(f"*{LOG}")):
        data = path.read_bytes()
        with contextlib.suppress(BatchError):
            for position, header in iter_headers(data):
                if not crc_ok(data, position):
                    break
                yield path, position, header, data
