"""The directories of partitions in a data directory: their names, and which of them are known.

``<topic>-<partition>`` belongs to a partition.  As in Kafka, ``.<32 hex digits>-delete`` behind that
name says that the topic was deleted and the files only have to go, and ``.<32 hex digits>-stray`` that
the directory was set aside because the catalog does not know it: somebody may want to look at it, so it
stays.  Everything else in the data directory is left alone.
"""

from __future__ import annotations

import logging
import os
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from pykbroker.catalog.image import Image
from pykbroker.catalog.local import DIRECTORY as CATALOG_DIRECTORY
from pykbroker.log.checkpoints import read_partition_metadata, write_partition_metadata
from pykbroker.log.files import Files

log = logging.getLogger(__name__)

DELETED = "-delete"
STRAY = "-stray"
NAME_MAX = 255
"""Bytes of a file name on the file systems of Linux and macOS."""

_PARTITION = re.compile(r"([a-zA-Z0-9._-]+)-([0-9]+)\Z")
_MARKED = re.compile(r".*\.[0-9a-f]{32}-(delete|stray|future)\Z")

TopicPartition = tuple[str, int]


def name_of(topic: str, index: int) -> str:
    """The directory of a partition."""
    return f"{topic}-{index}"


def parse_name(name: str) -> TopicPartition | None:
    """Topic and index of a partition's directory; None for any other name."""
    match = _PARTITION.match(name)
    if match is None or _MARKED.match(name) or str(int(match[2])) != match[2]:
        return None
    return match[1], int(match[2])


def marked_name(name: str, mark: str) -> str:
    """``name`` with ``mark``, unique, cut as far as a file name must be."""
    suffix = f".{uuid.uuid4().hex}{mark}"
    partition = name.rpartition("-")[2]
    if len(name) + len(suffix) <= NAME_MAX:
        return name + suffix
    suffix = f"-{partition}{suffix}"
    return name[: NAME_MAX - len(suffix)] + suffix


@dataclass(slots=True)
class Found:
    """What a data directory holds: partitions to open, and directories whose files only have to go."""

    known: list[TopicPartition] = field(default_factory=list)
    deleted: list[Path] = field(default_factory=list)
    set_aside: list[Path] = field(default_factory=list)


def survey(data_dir: Path, image: Image, files: Files) -> Found:
    """Sort the directories in ``data_dir``; rename those that ``image`` does not know.  Blocks."""
    found = Found()
    with os.scandir(data_dir) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    for name in names:
        if name.endswith(DELETED) and _MARKED.match(name):
            found.deleted.append(data_dir / name)
            continue
        key = parse_name(name)
        if key is None or name == CATALOG_DIRECTORY:
            continue
        reason = _why_unknown(key, data_dir / name, image, files)
        if reason is None:
            found.known.append(key)
        else:
            found.set_aside.append(set_aside(data_dir / name, reason, files))
    return found


def set_aside(directory: Path, reason: str, files: Files) -> Path:
    """Rename a directory so that nothing uses it any more; returns where it is."""
    aside = directory.with_name(marked_name(directory.name, STRAY))
    files.rename(directory, aside)
    log.warning("directory set aside: path=%s now=%s reason=%s", directory, aside.name, reason)
    return aside


def _why_unknown(key: TopicPartition, directory: Path, image: Image, files: Files) -> str | None:
    topic = image.topics.get(key[0])
    if topic is None:
        return "the catalog has no such topic"
    if key[1] >= len(topic.partitions):
        return "the topic has fewer partitions"
    topic_id = read_partition_metadata(directory, files)
    if topic_id is None:  # made, and then stopped before the id was written
        write_partition_metadata(directory, topic.topic_id, files)
    elif topic_id != topic.topic_id:
        return "it belongs to an earlier topic of that name"
    return None
