"""A client that says exactly what came: per-partition errors, per-record errors, what is stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from pykbroker.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from pykbroker.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from pykbroker.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from pykbroker.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from pykbroker.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from pykbroker.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from pykbroker.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from pykbroker.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from pykbroker.records.batch import HEADER_SIZE, BatchHeader, write_crc
from pykbroker.records.build import RecordData, encode_batch
from pykbroker.records.decode import Record, iter_all_records
from tests.rawclient import RawClient

TOPIC = 2


class Talk:
    """One connection to one broker; every answer is handed back as it came."""

    def __init__(self, bootstrap: str, timeout_s: float = 10.0) -> None:
        self.bootstrap = bootstrap
        self.client = RawClient(bootstrap, timeout_s)

    def create(self, topic: str, settings: Mapping[str, str] | None = None, partitions: int = 1) -> int:
        """Create a topic; its error code."""
        return self.creation(topic, settings, partitions)[0]

    def creation(
        self, topic: str, settings: Mapping[str, str] | None = None, partitions: int = 1
    ) -> tuple[int, str | None]:
        """Create a topic; error code and message."""
        configs = [CreatableTopicConfig(name=n, value=v) for n, v in (settings or {}).items()]
        wanted = CreatableTopic(
            name=topic, num_partitions=partitions, replication_factor=1, assignments=[], configs=configs
        )
        request = CreateTopicsRequest(topics=[wanted], timeout_ms=5000, validate_only=False)
        (answer,) = self.client.call(request, CreateTopicsResponse, 5).topics
        return answer.error_code, answer.error_message

    def alter(self, topic: str, **settings: str | None) -> AlterConfigsResourceResponse:
        """Set settings of a topic (None: back to the default); underscores stand for dots."""
        configs = [
            AlterableConfig(
                name=name.replace("_", "."), config_operation=1 if value is None else 0, value=value
            )
            for name, value in settings.items()
        ]
        resource = AlterConfigsResource(resource_type=TOPIC, resource_name=topic, configs=configs)
        request = IncrementalAlterConfigsRequest(resources=[resource], validate_only=False)
        (answer,) = self.client.call(request, IncrementalAlterConfigsResponse, 1).responses
        return answer

    def produce(
        self,
        topic: str,
        *values: bytes | None,
        codec: int = 0,
        producer_id: int = -1,
        producer_epoch: int = -1,
        base_sequence: int = -1,
    ) -> PartitionProduceResponse:
        """Produce these values as one batch to partition 0, at time 1000."""
        batch = encode_batch(
            [RecordData(b"k", value) for value in values],
            timestamp_ms=1000,
            codec=codec,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=base_sequence,
        )
        return self.send(topic, batch)

    def begin(self, topic: str, *values: bytes) -> Callable[[], PartitionProduceResponse]:
        """Send a produce without waiting; the result waits for the answer."""
        answers: list[PartitionProduceResponse] = []
        thread = threading.Thread(target=lambda: answers.append(self.produce(topic, *values)))
        thread.start()

        def wait() -> PartitionProduceResponse:
            thread.join()
            return answers[0]

        return wait

    def undecodable(self) -> bytes:
        """A batch whose record has the right length, and a key that is longer than the record."""
        good = bytearray(encode_batch([RecordData(b"12345678", None)], timestamp_ms=1))
        good[HEADER_SIZE + 4] = 120
        write_crc(good, 0)
        return bytes(good)

    def metadata(self, topic: str) -> int:
        """Ask for a topic, which may make it; its error code."""
        request = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=True)
        (answer,) = self.client.call(request, MetadataResponse, 9).topics
        return answer.error_code

    def join(self, group: str) -> None:
        """Make the group's coordinator and become its first member, up to the point where others wait."""
        self.client.call(FindCoordinatorRequest(key=group), FindCoordinatorResponse, 3)
        request = JoinGroupRequest(
            group_id=group,
            session_timeout_ms=30_000,
            rebalance_timeout_ms=1000,
            member_id="",
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=b"\0\0\0\0\0\0\0\0\0\0")],
        )
        assert self.client.call(request, JoinGroupResponse, 3).error_code == 0

    def delete(self, topic: str) -> None:
        """Delete a topic."""
        request = DeleteTopicsRequest(topic_names=[topic], timeout_ms=5000)
        (answer,) = self.client.call(request, DeleteTopicsResponse, 5).responses
        assert answer.error_code == 0

    def send(self, topic: str, batch: bytes, acks: int = -1) -> PartitionProduceResponse:
        """Produce these bytes to partition 0."""
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=0, records=batch)])
        request = ProduceRequest(acks=acks, timeout_ms=5000, topic_data=[data])
        answer = self.client.call(request, ProduceResponse, 12)
        return answer.responses[0].partition_responses[0]

    def batches(self, topic: str, offset: int = 0) -> list[tuple[BatchHeader, Record]]:
        """Everything stored in partition 0, each record with the header of its batch."""
        wanted = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1 << 20,
            topics=[FetchTopic(topic=topic, partitions=[wanted])],
        )
        found = self.client.call(request, FetchResponse, 12).responses[0].partitions[0]
        assert found.error_code == 0
        assert isinstance(found.records, bytes | bytearray | memoryview)
        return list(iter_all_records(found.records))

    def values(self, topic: str) -> list[bytes | None]:
        """The values in partition 0."""
        return [record.value for _, record in self.batches(topic)]

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
