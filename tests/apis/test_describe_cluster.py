"""DescribeCluster."""

from __future__ import annotations

from pykbroker.apis.describe_cluster import failed, handle
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.describe_cluster import DescribeClusterRequest
from tests.apis.admin_support import context, served


async def test_this_broker_is_all_and_controls_it() -> None:
    ctx = context(2, None, "node.id=7", "broker.rack=r1")
    response = await served(handle, ctx, DescribeClusterRequest())
    assert (response.error_code, response.cluster_id, response.controller_id) == (0, "memory", 7)
    (broker,) = response.brokers
    assert (broker.broker_id, broker.host, broker.port, broker.rack) == (7, "localhost", 9092, "r1")
    assert response.cluster_authorized_operations == -2147483648
    asked = DescribeClusterRequest(include_cluster_authorized_operations=True)
    assert (await served(handle, ctx, asked)).cluster_authorized_operations == 8096


async def test_controllers_are_asked_elsewhere() -> None:
    ctx = context(2)
    assert (await served(handle, ctx, DescribeClusterRequest(endpoint_type=2))).error_code == 114
    assert (await served(handle, ctx, DescribeClusterRequest(endpoint_type=9))).error_code == 115


async def test_failed() -> None:
    assert failed(context(2), DescribeClusterRequest(), ErrorCode.UNKNOWN_SERVER_ERROR).error_code == -1
