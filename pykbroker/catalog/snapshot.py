"""An image as a file: what a start reads instead of the history that led to it.

``<offset>-<epoch>.checkpoint`` in the catalog's directory, named and framed as KRaft's snapshots are:
record batches, so that DumpLogSegments reads it; JSON values like the log's.  ``offset`` is where
the log goes on.  The first record is the head, the last one counts the records, so that a file that
was cut short is no snapshot.  Written aside and renamed: there is all of it or nothing.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pykbroker.catalog.changes import encode_object
from pykbroker.catalog.exchange import Exchange, ExchangeVersion
from pykbroker.catalog.forms import exchange_fields, exchange_version_from, state_fields, state_from
from pykbroker.catalog.image import (
    BrokerInfo,
    Image,
    PartitionState,
    Settings,
    Topic,
    topic_id_bytes,
    topic_id_text,
)
from pykbroker.config import Endpoint
from pykbroker.log.files import Files
from pykbroker.records.batch import BatchError, crc_ok, iter_headers
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import iter_records

log = logging.getLogger(__name__)

_NAME = re.compile(r"([0-9]{20})-([0-9]{10})\.checkpoint")
_RECORDS_PER_BATCH = 100


class SnapshotError(Exception):
    """A file that should be a snapshot is not one."""


def path_of(directory: Path, offset: int) -> Path:
    """Where the snapshot at ``offset`` is kept."""
    return directory / f"{offset:020d}-{0:010d}.checkpoint"


def found_in(directory: Path, files: Files) -> dict[int, Path]:
    """The snapshots in ``directory`` by offset, newest first."""
    if not directory.exists():
        return {}
    matches = (_NAME.fullmatch(name) for name in files.listing(directory))
    offsets = sorted((int(match[1]) for match in matches if match), reverse=True)
    return {offset: path_of(directory, offset) for offset in offsets}


def write(directory: Path, offset: int, image: Image, *, now_ms: int, files: Files) -> None:
    """Put a snapshot of ``image`` on the disk, synced.  Blocks; raises OSError."""
    values = list(_objects(image))
    values.append(encode_object("end", {"records": len(values)}))
    out = bytearray()
    for first in range(0, len(values), _RECORDS_PER_BATCH):
        records = [RecordData(value=value) for value in values[first : first + _RECORDS_PER_BATCH]]
        out += encode_batch(records, timestamp_ms=now_ms, base_offset=first)
    files.replace(path_of(directory, offset), bytes(out), sync=True)


def read(path: Path, files: Files) -> Image:
    """The image in a snapshot.  Blocks; raises OSError, :class:`SnapshotError`."""
    try:
        return _image(list(_values(files.read_all(path))))
    except (BatchError, ValueError, KeyError, TypeError, IndexError) as error:
        raise SnapshotError(f"{path} is damaged: {error}") from error


def _values(data: bytes) -> Iterator[Any]:
    for position, _ in iter_headers(data):
        if not crc_ok(data, position):
            raise ValueError(f"checksum of the batch at byte {position} does not match")
        for record in iter_records(data, position):
            yield json.loads(record.value or b"")


def _objects(image: Image) -> Iterator[bytes]:
    head = {
        "cluster": image.cluster_id,
        "version": image.version,
        "next_producer_id": image.next_producer_id,
    }
    yield encode_object("snapshot", head)
    for topic in image.topics.values():
        yield encode_object("topic", _topic_fields(topic))
    for broker in image.brokers.values():
        endpoints = [[e.name, e.host, e.port] for e in broker.endpoints]
        fields = {"node": broker.node_id, "endpoints": endpoints, "rack": broker.rack}
        yield encode_object("broker", {**fields, "version": broker.version})
    for (resource, name), settings in image.settings.items():
        fields = {"resource": resource, "name": name, "configs": dict(settings.values)}
        yield encode_object("settings", {**fields, "version": settings.version})
    for exchange in image.exchanges.values():
        for exchange_version in exchange.versions:
            yield encode_object("exchange", exchange_fields(exchange.name, exchange_version))


def _topic_fields(topic: Topic) -> dict[str, object]:
    runs = itertools.groupby(topic.partitions, key=lambda partition: state_fields(partition)[1:])
    return {
        "name": topic.name,
        "id": topic_id_text(topic.topic_id),
        "version": topic.version,
        "config_version": topic.config_version,
        "configs": dict(topic.overrides),
        "partitions": [[len(list(group)), state] for state, group in runs],
    }


def _image(values: list[Any]) -> Image:
    head, end = values[0], values[-1]
    if head["type"] != "snapshot" or end["type"] != "end" or end["records"] != len(values) - 1:
        raise ValueError("the first or last record is missing")
    topics: dict[str, Topic] = {}
    brokers: dict[int, BrokerInfo] = {}
    settings: dict[tuple[int, str], Settings] = {}
    versions: dict[str, list[ExchangeVersion]] = {}
    for entry in values[1:-1]:
        match entry["type"]:
            case "topic":
                topics[entry["name"]] = _topic(entry)
            case "broker":
                brokers[entry["node"]] = BrokerInfo(
                    node_id=entry["node"],
                    endpoints=tuple(Endpoint(*parts) for parts in entry["endpoints"]),
                    rack=entry["rack"],
                    version=entry["version"],
                )
            case "settings":
                settings[entry["resource"], entry["name"]] = Settings(
                    values=entry["configs"], version=entry["version"]
                )
            case "exchange":
                versions.setdefault(entry["name"], []).append(exchange_version_from(entry))
            case kind:
                raise ValueError(f"unknown type of object: {kind!r}")
    return Image(
        cluster_id=head["cluster"],
        version=head["version"],
        topics=topics,
        names_by_id={topic.topic_id: topic.name for topic in topics.values()},
        brokers=brokers,
        settings=settings,
        next_producer_id=head["next_producer_id"],
        exchanges={name: Exchange(name=name, versions=tuple(history)) for name, history in versions.items()},
    )


def _topic(entry: Mapping[str, Any]) -> Topic:
    partitions: list[PartitionState] = []
    for count, state in entry["partitions"]:
        first = len(partitions)
        partitions += [state_from([index, *state]) for index in range(first, first + count)]
    return Topic(
        name=entry["name"],
        topic_id=topic_id_bytes(entry["id"]),
        partitions=tuple(partitions),
        overrides=entry["configs"],
        version=entry["version"],
        config_version=entry["config_version"],
    )
