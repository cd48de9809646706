"""FindCoordinator (key 10), versions 0 to 6: which broker coordinates a group.

- Version 1 has a key type (0 group, 1 transactional id, 2 share group), 3 is flexible, 4 (KIP-699) takes
  several keys, 6 (KIP-932) adds share groups.
- The offsets topic is made when a coordinator is first looked for.  Kafka answers
  COORDINATOR_NOT_AVAILABLE while it makes it; we answer when it is there.

Where we differ: share groups have no coordinator yet, so that their key type is refused with
INVALID_REQUEST, which clients report instead of asking for ever.  For a transactional id we name
ourselves, as Kafka does, and InitProducerId refuses: "not supported" is what all clients then say, while
librdkafka takes INVALID_REQUEST here for a passing trouble and tells nobody.
"""

from __future__ import annotations

from pykbroker.apis._registry import RequestContext, api
from pykbroker.errors import ErrorCode, KafkaError
from pykbroker.protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

GROUP = 0
"""The key type of groups."""

TRANSACTION = 1
"""The key type of transactional ids."""

SHARE = 2
"""The key type of share groups."""


def failed(ctx: RequestContext, request: FindCoordinatorRequest, code: ErrorCode) -> FindCoordinatorResponse:
    """``code`` for every key."""
    return _answer(ctx, [_refused(key, code, code.name) for key in _keys(ctx, request)])


@api(FindCoordinatorRequest, FindCoordinatorResponse, failed=failed)
async def handle(ctx: RequestContext, request: FindCoordinatorRequest) -> FindCoordinatorResponse:
    """Look each key up."""
    return _answer(ctx, [await _find(ctx, request.key_type, key) for key in _keys(ctx, request)])


def _keys(ctx: RequestContext, request: FindCoordinatorRequest) -> list[str]:
    return request.coordinator_keys if ctx.version >= 4 else [request.key]


async def _find(ctx: RequestContext, key_type: int, key: str) -> Coordinator:
    if key_type not in (GROUP, TRANSACTION):
        what = "share groups are" if key_type == SHARE else f"key type {key_type} is"
        return _refused(key, ErrorCode.INVALID_REQUEST, f"{what} not supported by this broker")
    try:
        groups = ctx.services.groups
        node_id = ctx.services.config.node_id if key_type == TRANSACTION else await groups.find(key)
    except KafkaError as error:
        return _refused(key, error.code, str(error))
    broker = ctx.services.catalog.image.brokers.get(node_id)
    endpoint = None if broker is None else broker.endpoint(ctx.listener)
    if endpoint is None:
        return _refused(key, ErrorCode.COORDINATOR_NOT_AVAILABLE, f"broker {node_id} is not there")
    return Coordinator(
        key=key, node_id=node_id, host=endpoint.host, port=endpoint.port, error_code=0, error_message=""
    )


def _refused(key: str, code: ErrorCode, message: str) -> Coordinator:
    return Coordinator(key=key, node_id=-1, host="", port=-1, error_code=code, error_message=message)


def _answer(ctx: RequestContext, found: list[Coordinator]) -> FindCoordinatorResponse:
    if ctx.version >= 4:
        return FindCoordinatorResponse(coordinators=found)
    only = found[0]
    return FindCoordinatorResponse(
        error_code=only.error_code,
        # Kafka says so below version 4.
        error_message=only.error_message or "NONE",
        node_id=only.node_id,
        host=only.host,
        port=only.port,
    )
