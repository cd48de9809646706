"""AlterConfigs (API key 33): request and response, versions 0 to 2."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, boolean, int8, int16, int32, string


class AlterableConfig(Struct):
    name: str = string()
    value: str | None = string(nullable=0)


class AlterConfigsResource(Struct):
    resource_type: int = int8()
    resource_name: str = string()
    configs: list[AlterableConfig] = array(lambda: AlterableConfig)


class AlterConfigsRequest(Message, key=33, versions=(0, 2), flexible=2):
    """Body of a AlterConfigs request."""

    resources: list[AlterConfigsResource] = array(lambda: AlterConfigsResource)
    validate_only: bool = boolean()


class AlterConfigsResourceResponse(Struct):
    error_code: int = int16()
    error_message: str | None = string(nullable=0)
    resource_type: int = int8()
    resource_name: str = string()


class AlterConfigsResponse(Message, key=33, versions=(0, 2), flexible=2):
    """Body of a AlterConfigs response."""

    throttle_time_ms: int = int32()
    responses: list[AlterConfigsResourceResponse] = array(lambda: AlterConfigsResourceResponse)
