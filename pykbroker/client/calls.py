"""Calls that commands share: a topic read through, settings of many topics, a commit, records deleted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from pykbroker.client.client import EARLIEST, Client, check_code
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from pykbroker.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)
from pykbroker.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from pykbroker.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from pykbroker.records.batch import iter_headers
from pykbroker.records.decode import Record, iter_records

TOPIC, GROUP = 2, 32
"""The types of a topic and of a group as config resources."""

_NO_SUCH = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.INVALID_REQUEST)
"""There is no such topic, or no such thing has settings: the group without a name is one."""

COMMIT_VERSION = 8
"""Of OffsetCommit: names topics (10 takes ids), and asks nobody for a member epoch (9)."""


async def settings_of_topics(
    client: Client, names: Sequence[str], keys: Sequence[str]
) -> dict[str, dict[str, str]]:
    """By topic, the values of those settings that it has; topics that do not exist are left out.

    Raises KafkaError where they cannot be told now, as which letters are settled cannot after a start.
    """
    return await _settings(client, TOPIC, names, keys)


async def settings_of_groups(client: Client, keys: Sequence[str]) -> dict[str, dict[str, str]]:
    """By group, for all groups that there are, the values of those settings that it has."""
    answer = await client.send(ListGroupsRequest(), ListGroupsResponse)
    check_code(answer.error_code)
    return await _settings(client, GROUP, [each.group_id for each in answer.groups], keys)


async def settings_of_group(client: Client, group: str, keys: Sequence[str]) -> dict[str, str]:
    """The values of those settings that one group has, be it there or not.

    Raises KafkaError where they cannot be told now.
    """
    return (await _settings(client, GROUP, [group], keys)).get(group, {})


async def _settings(
    client: Client, kind: int, names: Sequence[str], keys: Sequence[str]
) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [
        DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=list(keys))
        for name in names
    ]
    answer = await client.send(DescribeConfigsRequest(resources=resources), DescribeConfigsResponse)
    for each in answer.results:
        if each.error_code not in _NO_SUCH:
            check_code(each.error_code, each.error_message)
    return {
        each.resource_name: {row.name: row.value for row in each.configs if row.value is not None}
        for each in answer.results
        if not each.error_code
    }


async def records(
    client: Client, topic: str, partition: int, start: int, end: int, *, max_bytes: int = 1024 * 1024
) -> AsyncGenerator[Record, None]:
    """The records from offset ``start`` to before ``end``, in order; only one answer is held at a time.

    What is deleted meanwhile is left out.  Raises KafkaError.
    """
    while start < end:
        try:
            found = await client.fetch(topic, partition, start, max_bytes=max_bytes)
        except KafkaError as error:
            if error.code != ErrorCode.OFFSET_OUT_OF_RANGE:
                raise
            earliest = await client.offset(topic, partition, EARLIEST)
            if earliest <= start:
                raise
            start = earliest
            continue
        assert found.records is None or isinstance(found.records, memoryview | bytes)
        data = bytes(found.records or b"")
        if not data:
            return
        for position, header in iter_headers(data):
            if not header.is_control:
                for record in iter_records(data, position):
                    if start <= record.offset < end:
                        yield record
            start = max(start, header.next_offset)


async def commit(client: Client, group: str, topic: str, partition: int, offset: int, metadata: str) -> None:
    """Commit for a group that has no members; raises KafkaError with the partition's code."""
    row = OffsetCommitRequestPartition(
        partition_index=partition,
        committed_offset=offset,
        committed_leader_epoch=-1,
        committed_metadata=metadata,
    )
    request = OffsetCommitRequest(
        group_id=group, topics=[OffsetCommitRequestTopic(name=topic, partitions=[row])]
    )
    connection = await client.coordinator(group)
    version = min(connection.version_of(OffsetCommitRequest), COMMIT_VERSION)
    answer = await connection.send(request, OffsetCommitResponse, version=version)
    check_code(answer.topics[0].partitions[0].error_code)


async def delete_records(client: Client, topic: str, partition: int, before: int) -> int:
    """Delete what lies before ``before``; returns the first offset that is left.  Raises KafkaError."""
    wanted = DeleteRecordsPartition(partition_index=partition, offset=before)
    request = DeleteRecordsRequest(
        topics=[DeleteRecordsTopic(name=topic, partitions=[wanted])], timeout_ms=30_000
    )
    connection = await client.leader(topic, partition)
    found = (await connection.send(request, DeleteRecordsResponse)).topics[0].partitions[0]
    check_code(found.error_code)
    return found.low_watermark
