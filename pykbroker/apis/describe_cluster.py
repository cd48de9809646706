"""DescribeCluster, versions 0 to 2: the brokers, and who controls them (KIP-700).

v1 endpoint type (KIP-919): only brokers can be asked here; v2 fenced brokers, of which there are none.
"""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext, api
from pykbroker.apis.metadata import CLUSTER_OPERATIONS, controller_id
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

BROKERS, CONTROLLERS = 1, 2


def failed(ctx: RequestContext, request: DescribeClusterRequest, code: ErrorCode) -> DescribeClusterResponse:
    """The answer carries ``code``."""
    return DescribeClusterResponse(
        error_code=code, error_message=code.name, endpoint_type=request.endpoint_type
    )


@api(DescribeClusterRequest, DescribeClusterResponse, failed=failed)
async def handle(ctx: RequestContext, request: DescribeClusterRequest) -> DescribeClusterResponse:
    if request.endpoint_type == CONTROLLERS:
        return _refused(ErrorCode.MISMATCHED_ENDPOINT_TYPE, "The request was sent to an endpoint of brokers.")
    if request.endpoint_type != BROKERS:
        return _refused(
            ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, f"Unsupported endpoint type {request.endpoint_type}."
        )
    image = ctx.services.catalog.image
    answer = DescribeClusterResponse(
        cluster_id=image.cluster_id,
        controller_id=controller_id(ctx),
        brokers=[
            DescribeClusterBroker(
                broker_id=broker.node_id, host=endpoint.host, port=endpoint.port, rack=broker.rack
            )
            for broker in image.brokers.values()
            if (endpoint := broker.endpoint(ctx.listener)) is not None
        ],
    )
    if request.include_cluster_authorized_operations:
        answer.cluster_authorized_operations = CLUSTER_OPERATIONS
    return answer


def _refused(code: ErrorCode, message: str) -> DescribeClusterResponse:
    return DescribeClusterResponse(error_code=code, error_message=message)
