"""Reading partitions of several topics at the same time, each from its position on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from pykbroker.client import BrokerConnection, Client
    from pykbroker.protocol.messages.fetch import PartitionData
    from pykbroker.records.decode import Record

MAX_BYTES: Final = 1024 * 1024
"""Of one partition at one time; a batch that is larger comes whole."""
_NAMED: Final = 12
"""The last version of Fetch that names topics; later ones have ids."""

Place = tuple[str, int]
"""A topic and the number of a partition."""


class Reader:
    """``positions`` has the offset of the next record of each partition; it may be altered at any time."""

    def __init__(self, client: Client, positions: Mapping[Place, int]) -> None:
        self._client = client
        self.positions = dict(positions)
        self._turn = 0

    async def read(self, max_wait_ms: int) -> list[tuple[Place, list[Record]]]:
        """What is there next, after up to ``max_wait_ms``; positions have moved behind it.

        Where the log begins behind a position, it goes on there and says so.  Raises KafkaError.
        """
        found: list[tuple[Place, list[Record]]] = []
        self._turn += 1
        asked = await self._by_leader()
        for connection, places in asked.items():
            wait_ms = max_wait_ms if len(asked) == 1 else min(max_wait_ms, 100)
            for place, data in await self._fetch(connection, places, wait_ms):
                records = await self._taken(place, data)
                if records:
                    found.append((place, records))
        return found

    async def _by_leader(self) -> dict[BrokerConnection, list[Place]]:
        found: dict[BrokerConnection, list[Place]] = {}
        places = list(self.positions)
        first = self._turn % max(1, len(places))  # an answer has room for some: each comes first in turn
        for place in places[first:] + places[:first]:
            found.setdefault(await self._client.leader(*place), []).append(place)
        return found

    async def _fetch(
        self, connection: BrokerConnection, places: list[Place], max_wait_ms: int
    ) -> list[tuple[Place, PartitionData]]:
        from pykbroker.client.client import check_code
        from pykbroker.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic

        topics: dict[str, list[FetchPartition]] = {}
        for topic, partition in places:
            topics.setdefault(topic, []).append(
                FetchPartition(
                    partition=partition,
                    fetch_offset=self.positions[topic, partition],
                    partition_max_bytes=MAX_BYTES,
                )
            )
        request = FetchRequest(
            max_wait_ms=max_wait_ms,
            min_bytes=1,
            max_bytes=8 * MAX_BYTES,
            topics=[FetchTopic(topic=topic, partitions=parts) for topic, parts in topics.items()],
        )
        version = min(connection.version_of(FetchRequest), _NAMED)
        answer = await connection.send(request, FetchResponse, version=version)
        check_code(answer.error_code)
        return [
            ((topic.topic, part.partition_index), part)
            for topic in answer.responses
            for part in topic.partitions
        ]

    async def _taken(self, place: Place, data: PartitionData) -> list[Record]:
        from pykbroker.client.client import EARLIEST, check_code
        from pykbroker.errors import ErrorCode

        if data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
            start = await self._client.offset(*place, EARLIEST)
            if start > self.positions[place]:
                gone = f"{place[0]}/{place[1]}/{self.positions[place]}"
                click.echo(f"{gone} is deleted already: going on at offset {start}", err=True)
                self.positions[place] = start
                return []
        check_code(data.error_code, "/".join(map(str, place)))
        assert data.records is None or isinstance(data.records, memoryview | bytes)
        return list(self._records(place, bytes(data.records or b"")))

    def _records(self, place: Place, data: bytes) -> Iterator[Record]:
        from pykbroker.records.batch import iter_headers
        from pykbroker.records.decode import iter_records

        for at, header in iter_headers(data):
            if not header.is_control:
                for record in iter_records(data, at):
                    if record.offset >= self.positions[place]:
                        yield record
            self.positions[place] = max(self.positions[place], header.next_offset)
