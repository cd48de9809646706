"""DeleteTopics (API key 20): request and response, versions 1 to 6."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, int16, int32, string, uuid


class DeleteTopicState(Struct):
    name: str | None = string(since=6, nullable=6, default=None)
    topic_id: bytes = uuid(since=6)


class DeleteTopicsRequest(Message, key=20, versions=(1, 6), flexible=4):
    """Body of a DeleteTopics request."""

    topics: list[DeleteTopicState] = array(lambda: DeleteTopicState, since=6)
    topic_names: list[str] = array("string", until=5)
    timeout_ms: int = int32()


class DeletableTopicResult(Struct):
    name: str | None = string(nullable=6)
    topic_id: bytes = uuid(since=6)
    error_code: int = int16()
    error_message: str | None = string(since=5, nullable=5, default=None)


class DeleteTopicsResponse(Message, key=20, versions=(1, 6), flexible=4):
    """Body of a DeleteTopics response."""

    throttle_time_ms: int = int32()
    responses: list[DeletableTopicResult] = array(lambda: DeletableTopicResult)
