"""Exchanges that refuse what they would send nowhere at the door: ``pykbroker.exchange.unroutable=error``."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from pykbroker.components import RoutingContext
from pykbroker.errors import ErrorCode
from pykbroker.events import RecordUnroutable
from pykbroker.forwarding.deciding import STEP, Table
from pykbroker.records.batch import Buffer
from pykbroker.records.decode import iter_records
from pykbroker.records.validate import RecordsError
from pykbroker.routing import routing_key_of

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.catalog.image import Image
    from pykbroker.partitions.partition import Partition

MAX_NAMED = 1000
"""Unroutable records that one answer names."""

Wrong = tuple[int, str]
"""A record that would go nowhere, by its number in the batch, and why."""


def doors(catalog: Catalog, image: Image) -> frozenset[str | bytes]:
    """The exchanges of ``image`` that have a door, by name and by id."""
    found: set[str | bytes] = set()
    for name in image.exchanges:
        topic = image.topics.get(name)
        if topic and catalog.topic_config(topic).pykbroker_exchange_unroutable == "error":
            found |= {name, topic.topic_id}
    return frozenset(found)


def unroutable_steps(
    table: Table,
    exchange: Partition,
    batch: Buffer,
    max_decompressed: int,
    tell: Callable[[RecordUnroutable], None] | None,
) -> Generator[None, None, list[Wrong]]:
    """Look at a batch, in steps of well under a millisecond; the records that would go nowhere.

    Raises KafkaError (POLICY_VIOLATION) where the type of an exchange is missing.
    """
    wrong: list[Wrong] = []
    keys: list[str] = []
    name = exchange.topic
    for index, record in enumerate(iter_records(batch, max_bytes=max_decompressed)):
        key = routing_key_of(record.key, record.headers)
        routed = table.cached(name, key) or table.route(
            name, RoutingContext(exchange=name, routing_key=key, key=record.key, headers=record.headers)
        )
        if routed.unroutable:
            wrong.append((index, f"routing key {key!r:.200} matches no binding of {name}"))
            keys.append(key)
        if not (index + 1) % STEP:
            yield
    if tell is not None:
        for key in keys:
            tell(RecordUnroutable(exchange=name, partition=exchange.index, offset=-1, routing_key=key))
    return wrong


def refused(wrong: list[Wrong]) -> RecordsError:
    """What a batch with these records is answered."""
    return RecordsError(
        ErrorCode.INVALID_RECORD, f"{len(wrong)} records go nowhere: {wrong[0][1]}", wrong[:MAX_NAMED]
    )
