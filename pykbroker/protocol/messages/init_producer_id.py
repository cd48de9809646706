"""InitProducerId (API key 22): request and response, versions 0 to 5."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, int16, int32, int64, string


class InitProducerIdRequest(Message, key=22, versions=(0, 5), flexible=2):
    """Body of a InitProducerId request."""

    transactional_id: str | None = string(nullable=0)
    transaction_timeout_ms: int = int32()
    producer_id: int = int64(since=3, default=-1)
    producer_epoch: int = int16(since=3, default=-1)


class InitProducerIdResponse(Message, key=22, versions=(0, 5), flexible=2):
    """Body of a InitProducerId response."""

    throttle_time_ms: int = int32()
    error_code: int = int16()
    producer_id: int = int64(default=-1)
    producer_epoch: int = int16()
