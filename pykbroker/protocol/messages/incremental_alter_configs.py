"""IncrementalAlterConfigs (API key 44): request and response, versions 0 to 1."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, boolean, int8, int16, int32, string


class AlterableConfig(Struct):
    name: str = string()
    config_operation: int = int8()
    value: str | None = string(nullable=0)


class AlterConfigsResource(Struct):
    resource_type: int = int8()
    resource_name: str = string()
    configs: list[AlterableConfig] = array(lambda: AlterableConfig)


class IncrementalAlterConfigsRequest(Message, key=44, versions=(0, 1), flexible=1):
    """Body of a IncrementalAlterConfigs request."""

    resources: list[AlterConfigsResource] = array(lambda: AlterConfigsResource)
    validate_only: bool = boolean()


class AlterConfigsResourceResponse(Struct):
    error_code: int = int16()
    error_message: str | None = string(nullable=0)
    resource_type: int = int8()
    resource_name: str = string()


class IncrementalAlterConfigsResponse(Message, key=44, versions=(0, 1), flexible=1):
    """Body of a IncrementalAlterConfigs response."""

    throttle_time_ms: int = int32()
    responses: list[AlterConfigsResourceResponse] = array(lambda: AlterConfigsResourceResponse)
