"""DescribeConfigs (API key 32): request and response, versions 1 to 4."""

from __future__ import annotations

from pykbroker.protocol.schema import Message, Struct, array, boolean, int8, int16, int32, string


class DescribeConfigsResource(Struct):
    resource_type: int = int8()
    resource_name: str = string()
    configuration_keys: list[str] | None = array("string", nullable=0)


class DescribeConfigsRequest(Message, key=32, versions=(1, 4), flexible=4):
    """Body of a DescribeConfigs request."""

    resources: list[DescribeConfigsResource] = array(lambda: DescribeConfigsResource)
    include_synonyms: bool = boolean()
    include_documentation: bool = boolean(since=3)


class DescribeConfigsSynonym(Struct):
    name: str = string()
    value: str | None = string(nullable=0)
    source: int = int8()


class DescribeConfigsResourceResult(Struct):
    name: str = string()
    value: str | None = string(nullable=0)
    read_only: bool = boolean()
    config_source: int = int8(default=-1)
    is_sensitive: bool = boolean()
    synonyms: list[DescribeConfigsSynonym] = array(lambda: DescribeConfigsSynonym)
    config_type: int = int8(since=3)
    documentation: str | None = string(since=3, nullable=0)


class DescribeConfigsResult(Struct):
    error_code: int = int16()
    error_message: str | None = string(nullable=0)
    resource_type: int = int8()
    resource_name: str = string()
    configs: list[DescribeConfigsResourceResult] = array(lambda: DescribeConfigsResourceResult)


class DescribeConfigsResponse(Message, key=32, versions=(1, 4), flexible=4):
    """Body of a DescribeConfigs response."""

    throttle_time_ms: int = int32()
    results: list[DescribeConfigsResult] = array(lambda: DescribeConfigsResult)
