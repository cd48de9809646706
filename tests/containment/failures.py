"""What a consumer group does when records fail, with every code that it is answered.

No member joins: a commit without a member is what kafka-python sends for ``group_id`` with assigned
partitions, and it lets a test say exactly which commit the broker gets.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from pykbroker.catalog.retrying import HELD_PREFIX
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from pykbroker.protocol.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from pykbroker.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from pykbroker.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from pykbroker.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from pykbroker.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from pykbroker.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from pykbroker.protocol.messages.metadata import MetadataRequest, MetadataResponse
from pykbroker.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from pykbroker.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestTopic,
    OffsetFetchResponse,
)
from pykbroker.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from pykbroker.records.build import Headers, RecordData, encode_batch
from pykbroker.records.decode import iter_all_records
from pykbroker.testing import BrokerThread
from tests.containment.talk import Talk
from tests.rawclient import RawClient

PATIENCE_S = 30.0
MOMENT_S = 0.1
"""How long a test waits for what must not happen."""
CREATED_MS = 1_500_000_000_000
"""The timestamp of everything that is produced here: years ago."""
BROKER, GROUP = 4, 32
UNKNOWN = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class Letter(NamedTuple):
    """A record as a consumer sees it; of a repeated header the last value."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes | None]

    def text(self, header: str) -> str | None:
        """A header's text, or None."""
        value = self.headers.get(header)
        return None if value is None else value.decode()


class Groups(Talk):
    """What groups do and see, on one connection."""

    # -- making things

    def policy(self, topic: str, partitions: int = 1, **settings: str) -> None:
        """Create a topic with retry settings (``retry_policy="fixed"``, ...); a delay of 60 s unless said."""
        own = {"retry_policy": "fixed", "retry_delay_ms": "60000", **settings}
        named = KEPT | {
            name.replace("_", ".") if name in PLAIN else "pykbroker." + name.replace("_", "."): value
            for name, value in own.items()
        }
        assert self.creation(topic, named, partitions) == (0, None)

    def alter_group(self, group: str, **settings: str | None) -> int:
        """Set settings of a group (None: back to the default); underscores stand for dots."""
        return self._alter(GROUP, group, settings)

    def alter_broker(self, **settings: str | None) -> int:
        """Set settings of all brokers."""
        return self._alter(BROKER, "", settings)

    def _alter(self, kind: int, name: str, settings: Mapping[str, str | None]) -> int:
        configs = [
            AlterableConfig(
                name=each.replace("_", "."), config_operation=1 if value is None else 0, value=value
            )
            for each, value in settings.items()
        ]
        resource = AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)
        request = IncrementalAlterConfigsRequest(resources=[resource], validate_only=False)
        (answer,) = self.client.call(request, IncrementalAlterConfigsResponse, 1).responses
        return answer.error_code

    def add_partitions(self, topic: str, count: int) -> None:
        """Give a topic more partitions."""
        wanted = CreatePartitionsTopic(name=topic, count=count, assignments=None)
        request = CreatePartitionsRequest(topics=[wanted], timeout_ms=5000, validate_only=False)
        (answer,) = self.client.call(request, CreatePartitionsResponse, 3).results
        assert answer.error_code == 0, answer.error_message

    def delete_records(self, topic: str, before: int, partition: int = 0) -> int:
        """Delete what lies below an offset; the error code."""
        wanted = DeleteRecordsTopic(
            name=topic, partitions=[DeleteRecordsPartition(partition_index=partition, offset=before)]
        )
        request = DeleteRecordsRequest(topics=[wanted], timeout_ms=5000)
        return self.client.call(request, DeleteRecordsResponse, 2).topics[0].partitions[0].error_code

    def delete_group(self, group: str) -> None:
        """Delete a group and its offsets."""
        request = DeleteGroupsRequest(groups_names=[group])
        (answer,) = self.client.call(request, DeleteGroupsResponse, 2).results
        assert answer.error_code == 0

    def ask_for(self, topic: str) -> int:
        """Ask for a topic, which may make it, as a client does that waits for it; the last error code."""
        return self.metadata(topic) and self.metadata(topic)

    def topics(self) -> dict[str, int]:
        """All topics that clients see, with their partition counts."""
        answer = self.client.call(MetadataRequest(topics=None), MetadataResponse, 9)
        return {topic.name or "": len(topic.partitions) for topic in answer.topics}

    # -- what a group does

    def put(
        self,
        topic: str,
        *values: bytes,
        key: bytes | None = b"k",
        headers: Headers = (),
        partition: int = 0,
    ) -> int:
        """Produce these values, each with the headers; the error code."""
        records = [RecordData(key, value, headers=headers) for value in values]
        batch = encode_batch(records, timestamp_ms=CREATED_MS)
        part = PartitionProduceData(index=partition, records=batch)
        data = TopicProduceData(name=topic, partition_data=[part])
        request = ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[data])
        answer = self.client.call(request, ProduceResponse, 9)
        return answer.responses[0].partition_responses[0].error_code

    def commit(self, group: str, topic: str, *partitions: tuple[int, int, str]) -> list[int]:
        """Commit (partition, offset, metadata)s; their error codes."""
        self.client.call(FindCoordinatorRequest(key=group), FindCoordinatorResponse, 3)
        parts = [
            OffsetCommitRequestPartition(partition_index=p, committed_offset=o, committed_metadata=m)
            for p, o, m in partitions
        ]
        request = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=-1,
            member_id="",
            topics=[OffsetCommitRequestTopic(name=topic, partitions=parts)],
        )
        answer = self.client.call(request, OffsetCommitResponse, 7)
        return [part.error_code for part in answer.topics[0].partitions]

    def nack(
        self,
        group: str,
        topic: str,
        *ranges: int | Sequence[int],
        upto: int | None = None,
        reason: str | None = None,
        partition: int = 0,
    ) -> int:
        """Commit ``upto`` (behind the last nacked offset unless said) and nack; the error code."""
        said: dict[str, Any] = {"nack": list(ranges)}
        if reason is not None:
            said["reason"] = reason
        last = max((each if isinstance(each, int) else each[-1] for each in ranges), default=-1)
        offset = last + 1 if upto is None else upto
        (code,) = self.commit(group, topic, (partition, offset, json.dumps(said)))
        return code

    def committed(self, group: str, topic: str, partition: int = 0) -> tuple[int, str | None]:
        """The group's offset and metadata."""
        wanted = OffsetFetchRequestTopic(name=topic, partition_indexes=[partition])
        request = OffsetFetchRequest(group_id=group, topics=[wanted])
        part = self.client.call(request, OffsetFetchResponse, 7).topics[0].partitions[0]
        return part.committed_offset, part.metadata

    # -- what can be read

    def start(self, topic: str, partition: int = 0) -> int | None:
        """The first offset; None if there is no such partition."""
        wanted = ListOffsetsTopic(
            name=topic, partitions=[ListOffsetsPartition(partition_index=partition, timestamp=-2)]
        )
        request = ListOffsetsRequest(replica_id=-1, isolation_level=0, topics=[wanted])
        found = self.client.call(request, ListOffsetsResponse, 5).topics[0].partitions[0]
        return None if found.error_code == UNKNOWN else found.offset

    def letters(self, topic: str, partition: int = 0) -> list[Letter]:
        """Everything that can be read in a partition now; nothing if there is no such topic."""
        at = self.start(topic, partition)
        found: list[Letter] = []
        while at is not None:
            wanted = FetchPartition(partition=partition, fetch_offset=at, partition_max_bytes=1 << 24)
            request = FetchRequest(
                max_wait_ms=0,
                min_bytes=0,
                max_bytes=1 << 24,
                topics=[FetchTopic(topic=topic, partitions=[wanted])],
            )
            answer = self.client.call(request, FetchResponse, 12).responses[0].partitions[0]
            if answer.error_code == UNKNOWN:
                break
            assert answer.error_code == 0
            assert isinstance(answer.records, bytes | bytearray | memoryview)
            records = list(iter_all_records(answer.records))
            if not records:
                break
            found += [
                Letter(r.offset, r.timestamp, r.key, r.value, dict(r.headers))
                for _, r in records
                if r.offset >= at
            ]
            at = records[-1][1].offset + 1
        return found

    def eventually(self, topic: str, count: int, partition: int = 0) -> list[Letter]:
        """Wait until that many records can be read; then they are all, a moment later too."""
        wait(lambda: len(self.letters(topic, partition)) >= count, lambda: self.letters(topic, partition))
        return self.only(topic, count, partition)

    def only(self, topic: str, count: int, partition: int = 0) -> list[Letter]:
        """A moment passes, and that many records can be read."""
        time.sleep(MOMENT_S)
        found = self.letters(topic, partition)
        assert len(found) == count, found
        return found


class Failures(Groups):
    """The same, with the broker at hand; its clock moves when it is told to."""

    def __init__(self, broker: BrokerThread) -> None:
        super().__init__(broker.bootstrap)
        self.broker = broker

    def restart(self) -> None:
        """Stop and start the broker, and connect again."""
        self.close()
        self.broker.restart()
        self.client = RawClient(self.broker.bootstrap)

    def held(self) -> int:
        """How many failures have been decided so far, over all flows, whatever became of them."""

        def count() -> int:
            partitions = self.broker.broker.services.partitions
            return sum(p.high_watermark for p in partitions if p.topic.startswith(HELD_PREFIX))

        return self.broker.run(count)

    def decided(self, count: int) -> None:
        """Wait until that many failures have been decided."""
        wait(lambda: self.held() >= count, lambda: f"{self.held()} of {count} decided")

    def later(self, seconds: float, decided: int) -> None:
        """Move the broker's clock, once that many failures have been decided."""
        self.decided(decided)
        self.broker.advance(seconds)

    def back(self, seconds: float, decided: int) -> None:
        """Set the broker's clock back, as an administrator does, once that many have been decided."""
        self.decided(decided)

        def shift() -> None:
            self.broker.clock._shift_ms -= round(seconds * 1000)
            self.broker.clock.advance(0)

        self.broker.run(shift)


KEPT = {"retention.ms": "-1"}
"""Everything here is old, and clocks move far."""
PLAIN = frozenset({"cleanup_policy", "segment_bytes", "segment_ms", "max_message_bytes"})
"""Settings of topics that do not begin with ``pykbroker.``."""


def wait(done: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    """Return when ``done()``, or fail."""
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"after {PATIENCE_S} s: {what()}"
        time.sleep(0.02)


@contextmanager
def failing(*plugins: object, **settings: object) -> Iterator[Failures]:
    """A broker, and who fails records there; at the end it must still serve what nothing concerned."""
    named = {name.replace("_", "."): value for name, value in settings.items()}
    with BrokerThread(plugins=plugins, settings=named) as broker, Failures(broker) as failures:
        assert failures.create("plain", KEPT) == 0
        assert failures.produce("plain", b"before").error_code == 0
        yield failures
        assert failures.produce("plain", b"after").error_code == 0
        assert failures.values("plain") == [b"before", b"after"]
