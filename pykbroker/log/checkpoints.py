"""The small files of a data directory, as Kafka writes them.

``recovery-point-offset-checkpoint``, ``replication-offset-checkpoint`` (high watermarks),
``log-start-offset-checkpoint``: a version, a count, one line ``<topic> <partition> <offset>`` each.
``partition.metadata`` in a partition's directory: version and topic id.  ``meta.properties`` in the
data directory: cluster, node and directory id.  ``.kafka_cleanshutdown``: the last stop was clean.

All of them are replaced as a whole.  What a reader cannot parse counts as absent, with a warning:
a checkpoint only says where to begin, and without one more is verified.  These functions block.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from pykbroker.log.files import Files

log = logging.getLogger(__name__)

RECOVERY_POINTS = "recovery-point-offset-checkpoint"
HIGH_WATERMARKS = "replication-offset-checkpoint"
LOG_STARTS = "log-start-offset-checkpoint"
PARTITION_METADATA = "partition.metadata"
META_PROPERTIES = "meta.properties"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"

TopicPartition = tuple[str, int]
"""Topic name and partition number."""

_FILES = Files()


def read_offsets(path: Path, files: Files = _FILES) -> dict[TopicPartition, int]:
    """The offsets in a checkpoint file; empty when it is missing or not one."""
    try:
        data = files.read_all(path)
    except FileNotFoundError:
        return {}
    try:
        return parse_offsets(data)
    except ValueError as e:
        log.warning("checkpoint ignored: it cannot be read: file=%s error=%s", path, e)
        return {}


def parse_offsets(data: bytes) -> dict[TopicPartition, int]:
    """The offsets in the content of a checkpoint file.  Raises :class:`ValueError`."""
    lines = data.decode("utf-8").split("\n")
    if lines[0] != "0":
        raise ValueError(f"version is not 0: {lines[0][:20]!r}")
    if len(lines) < 2:
        raise ValueError("no number of entries")
    count = int(lines[1])
    offsets: dict[TopicPartition, int] = {}
    for line in lines[2 : 2 + count]:
        topic, partition, offset = line.split(" ")
        offsets[topic, int(partition)] = int(offset)
    if len(offsets) != count:
        raise ValueError(f"entries: {len(offsets)}, announced: {count}")
    return offsets


def write_offsets(path: Path, offsets: Mapping[TopicPartition, int], files: Files = _FILES) -> None:
    """Replace a checkpoint file, synced.  Raises :class:`OSError`."""
    lines = [f"{topic} {partition} {offset}" for (topic, partition), offset in offsets.items()]
    files.replace(path, "\n".join(["0", str(len(lines)), *lines, ""]).encode(), sync=True)


def format_uuid(uuid: bytes) -> str:
    """16 bytes as Kafka writes an id: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(uuid).rstrip(b"=").decode()


def parse_uuid(text: str) -> bytes:
    """The 16 bytes of an id.  Raises :class:`ValueError`."""
    try:
        uuid = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as e:
        raise ValueError(f"not an id: {text!r}") from e
    if len(uuid) != 16:
        raise ValueError(f"not an id of 16 bytes: {text!r}")
    return uuid


def read_partition_metadata(directory: Path, files: Files = _FILES) -> bytes | None:
    """The topic id of a partition's directory; None when the file is missing or not one."""
    path = directory / PARTITION_METADATA
    try:
        return parse_partition_metadata(files.read_all(path))
    except FileNotFoundError:
        return None
    except ValueError as e:
        log.warning("partition metadata ignored: it cannot be read: file=%s error=%s", path, e)
        return None


def parse_partition_metadata(data: bytes) -> bytes:
    """The topic id in the content of a ``partition.metadata`` file.  Raises :class:`ValueError`."""
    fields = _properties(data, ":")
    if "topic_id" not in fields:
        raise ValueError("no topic_id")
    return parse_uuid(fields["topic_id"])


def write_partition_metadata(directory: Path, topic_id: bytes, files: Files = _FILES) -> None:
    """Write the topic id into a partition's directory.  Raises :class:`OSError`."""
    text = f"version: 0\ntopic_id: {format_uuid(topic_id)}"
    files.replace(directory / PARTITION_METADATA, text.encode(), sync=False)


def read_meta_properties(data_dir: Path, files: Files = _FILES) -> dict[str, str]:
    """``meta.properties`` as a mapping; empty when it is missing.

    Raises :class:`ValueError` for a line that is neither comment nor ``name=value``.
    """
    try:
        return _properties(files.read_all(data_dir / META_PROPERTIES), "=")
    except FileNotFoundError:
        return {}


def write_meta_properties(data_dir: Path, properties: Mapping[str, str], files: Files = _FILES) -> None:
    """Replace ``meta.properties``, synced.  Raises :class:`OSError`."""
    text = "#\n" + "".join(f"{name}={value}\n" for name, value in sorted(properties.items()))
    files.replace(data_dir / META_PROPERTIES, text.encode(), sync=True)


def _properties(data: bytes, separator: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in data.decode("utf-8").splitlines():
        if not line.strip() or line.startswith(("#", "!")):
            continue
        name, found, value = line.partition(separator)
        if not found:
            raise ValueError(f"no {separator!r} in line {line[:80]!r}")
        fields[name.strip()] = value.strip()
    return fields


def write_clean_mark(data_dir: Path, files: Files = _FILES) -> None:
    """Note that everything is flushed and closed.  The last thing a clean stop does."""
    content = json.dumps({"version": 0, "brokerEpoch": -1}, separators=(",", ":"))
    files.replace(data_dir / CLEAN_SHUTDOWN, content.encode(), sync=True)


def take_clean_mark(data_dir: Path, files: Files = _FILES) -> bool:
    """Whether the last stop was clean.  The mark is gone from the disk on return, or a crash right
    after the start would be taken for a clean stop."""
    try:
        files.unlink(data_dir / CLEAN_SHUTDOWN)
    except FileNotFoundError:
        return False
    files.sync_directory(data_dir)
    return True
