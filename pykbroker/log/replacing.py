"""A swap of segments that a crash cannot leave half done.

Compaction writes ``<base>.log.cleaned`` files.  They take the place of the old segments in four
steps, of which the second decides:

1. the cleaned files are complete and on the disk;
2. ``replacement-commit`` appears, synced, naming old and new base offsets;
3. old files are renamed ``*.deleted``, cleaned ones get their names;
4. ``replacement-commit`` goes.

At the next start, a directory with the commit file goes on with step 3, which may be repeated; one
without it drops the cleaned files.  So until then, after a step that failed, nobody may write other ones:
who wants to asks :func:`is_begun`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from pykbroker.log.files import Files
from pykbroker.log.segment import CLEANED, DELETED, INDEX, LOG, TIME_INDEX, file_name

log = logging.getLogger(__name__)

COMMIT = "replacement-commit"
_SUFFIXES = (TIME_INDEX, INDEX, LOG)  # the log file last: without it there is nothing to swap


def commit(directory: Path, old: Sequence[int], new: Sequence[int], files: Files) -> list[Path]:
    """Put the cleaned segments ``new`` in place of ``old``.  Returns the renamed old files."""
    files.sync_directory(directory)
    lines = ["0", " ".join(map(str, old)), " ".join(map(str, new)), ""]
    files.replace(directory / COMMIT, "\n".join(lines).encode(), sync=True)
    return _carry_out(directory, old, new, files)


def is_begun(directory: Path, files: Files) -> bool:
    """Whether a replacement was decided about and is not finished."""
    return _exists(directory / COMMIT, files)


def complete(directory: Path, names: Iterable[str], files: Files) -> bool:
    """Finish or undo what a crash interrupted; True if any file was touched."""
    names = set(names)
    touched = False
    if COMMIT in names:
        lines = files.read_all(directory / COMMIT).decode("ascii").split("\n")
        old, new = ([int(base) for base in line.split()] for line in lines[1:3])
        log.info("segments replaced at start: directory=%s old=%s new=%s", directory, old, new)
        _carry_out(directory, old, new, files)
        return True
    for name in names:
        if name.endswith(CLEANED):
            files.unlink(directory / name)
            touched = True
    return touched


def _carry_out(directory: Path, old: Sequence[int], new: Sequence[int], files: Files) -> list[Path]:
    removed = []
    for base in old:
        replaced = base in new
        if replaced and not _exists(directory / (file_name(base, LOG) + CLEANED), files):
            continue  # done before a crash: the files of that name are the new ones
        for suffix in _SUFFIXES:
            path = directory / file_name(base, suffix)
            if _exists(path, files):
                files.rename(path, f"{path}{DELETED}")
                removed.append(Path(f"{path}{DELETED}"))
    for base in new:
        for suffix in _SUFFIXES:
            path = directory / file_name(base, suffix)
            if _exists(Path(f"{path}{CLEANED}"), files):
                files.rename(f"{path}{CLEANED}", path)
    try:
        files.sync_directory(directory)
        files.unlink(directory / COMMIT)
    except OSError as error:
        # All names are right, and a start that finds the file has nothing else to do.
        log.warning("segments are replaced, %s stays: directory=%s error=%s", COMMIT, directory, error)
    return removed


def _exists(path: Path, files: Files) -> bool:
    try:
        files.stat(path)
    except FileNotFoundError:
        return False
    return True
