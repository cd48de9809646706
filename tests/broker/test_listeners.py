"""Several listeners: a client is told the endpoints of the one that it came by."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from pykbroker.broker import Broker
from pykbroker.client.connection import BrokerConnection, connect
from pykbroker.config import BrokerConfig
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.create_topics import (
    CreatableTopic,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from pykbroker.protocol.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from pykbroker.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from pykbroker.protocol.messages.metadata import MetadataRequest, MetadataResponse


def config(data_dir: Path, *sets: str) -> BrokerConfig:
    return BrokerConfig.load(sets=[f"log.dirs={data_dir}", *sets])


async def told(connection: BrokerConnection) -> list[tuple[str, int]]:
    """Host and port of the broker, as three APIs tell it."""
    metadata = await connection.send(MetadataRequest(topics=[]), MetadataResponse)
    cluster = await connection.send(DescribeClusterRequest(), DescribeClusterResponse)
    request = FindCoordinatorRequest(coordinator_keys=["g"])
    (coordinator,) = (await connection.send(request, FindCoordinatorResponse)).coordinators
    return [
        *((broker.host, broker.port) for broker in metadata.brokers),
        *((broker.host, broker.port) for broker in cluster.brokers),
        (coordinator.host, coordinator.port),
    ]


async def test_each_listener_has_its_own_endpoint(tmp_path: Path) -> None:
    broker = Broker(
        config(
            tmp_path,
            "listeners=INSIDE://127.0.0.1:0,outside://127.0.0.1:0",
            "advertised.listeners=OUTSIDE://broker.example.org:9999,INSIDE://127.0.0.1:0",
        )
    )
    async with trio.open_nursery() as nursery:
        inside, outside = await nursery.start(broker.run)
        ports = [int(text.rpartition(":")[2]) for text in (inside, outside)]
        async with await connect("127.0.0.1", ports[0]) as connection:
            assert await told(connection) == [("127.0.0.1", ports[0])] * 3
        async with await connect("127.0.0.1", ports[1]) as connection:
            assert await told(connection) == [("broker.example.org", 9999)] * 3
        nursery.cancel_scope.cancel()


async def test_a_listener_that_is_not_advertised(tmp_path: Path) -> None:
    """As in Apache Kafka: nobody can be reached by it."""
    broker = Broker(
        config(tmp_path, "listeners=A://127.0.0.1:0,B://127.0.0.1:0", "advertised.listeners=A://h:1")
    )
    async with trio.open_nursery() as nursery:
        _, listener = await nursery.start(broker.run)
        async with await connect("127.0.0.1", int(listener.rpartition(":")[2])) as connection:
            assert await told(connection) == [("", -1)]
            create = CreateTopicsRequest(topics=[CreatableTopic(name="t", num_partitions=1)], timeout_ms=1000)
            await connection.send(create, CreateTopicsResponse)
            request = MetadataRequest(topics=None)
            partition = (await connection.send(request, MetadataResponse)).topics[0].partitions[0]
            assert (partition.error_code, partition.leader_id) == (ErrorCode.LISTENER_NOT_FOUND, -1)
            partition = (await connection.send(request, MetadataResponse, version=5)).topics[0].partitions[0]
            assert (partition.error_code, partition.leader_id) == (ErrorCode.LEADER_NOT_AVAILABLE, -1)
        nursery.cancel_scope.cancel()


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on this machine")
async def test_ipv6(tmp_path: Path) -> None:
    broker = Broker(config(tmp_path, "listeners=PLAINTEXT://[::1]:0"))
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(broker.run)
        assert listener.startswith("[::1]:")
        assert broker.bootstrap == listener
        port = int(listener.rpartition(":")[2])
        async with await connect("::1", port) as connection:
            assert await told(connection) == [("::1", port)] * 3
        nursery.cancel_scope.cancel()
