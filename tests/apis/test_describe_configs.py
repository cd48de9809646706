"""DescribeConfigs: who may be asked, and what the answer lists."""

from __future__ import annotations

import pytest

from pykbroker.apis._registry import RequestContext
from pykbroker.apis.describe_configs import failed, handle
from pykbroker.catalog.topics import NewTopic
from pykbroker.config import GroupConfig, settings_of
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResult,
)
from tests.apis.admin_support import context, served


async def describe(
    ctx: RequestContext, kind: int, name: str, keys: list[str] | None = None, *, more: bool = False
) -> DescribeConfigsResult:
    resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
    request = DescribeConfigsRequest(resources=[resource], include_synonyms=more, include_documentation=more)
    (result,) = (await served(handle, ctx, request)).results
    assert (result.resource_type, result.resource_name) == (kind, name)
    return result


def by_name(result: DescribeConfigsResult) -> dict[str, DescribeConfigsResourceResult]:
    assert result.error_code == 0
    return {config.name: config for config in result.configs}


async def test_a_topics_defaults_are_listed() -> None:
    ctx = context(4)
    await ctx.services.topics.create([NewTopic(name="a", overrides=[("segment.bytes", "99")])])
    configs = by_name(await describe(ctx, 2, "a"))
    assert len([name for name in configs if not name.startswith("pykbroker.")]) == 33
    assert (configs["segment.bytes"].value, configs["segment.bytes"].config_source) == ("99", 1)
    assert configs["segment.bytes"].config_type == 3
    assert configs["retention.ms"].config_source == 5
    assert configs["retention.ms"].synonyms == []
    assert configs["retention.ms"].documentation is None
    assert not configs["retention.ms"].read_only


async def test_synonyms_documentation_and_chosen_keys() -> None:
    ctx = context(4)
    await ctx.services.topics.create([NewTopic(name="a")])
    result = await describe(ctx, 2, "a", ["segment.bytes", "no.such.key"], more=True)
    (config,) = result.configs
    assert [(s.name, s.value, s.source) for s in config.synonyms] == [("log.segment.bytes", "1073741824", 5)]
    assert config.documentation
    assert len(by_name(await describe(ctx, 2, "a", []))) > 33


async def test_this_broker_and_all_brokers() -> None:
    ctx = context(4, None, "num.partitions=3")
    configs = by_name(await describe(ctx, 4, "1"))
    assert (configs["num.partitions"].value, configs["num.partitions"].config_source) == ("3", 4)
    assert configs["num.partitions"].read_only
    assert not configs["log.retention.ms"].read_only
    assert configs["log.retention.ms"].value is None
    assert by_name(await describe(ctx, 4, "")) == {}


async def test_a_group_need_not_exist() -> None:
    assert by_name(await describe(context(4), 32, "g")).keys() == settings_of(GroupConfig).keys()


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [(2, "nope", 3), (2, "a b", 17), (4, "2", 42), (4, "x", 42), (32, "", 42), (16, "", 42), (8, "", 42)]
    + [(kind, "x", 42) for kind in (0, 1, 99)],
)
async def test_refusals(kind: int, name: str, code: int) -> None:
    result = await describe(context(4), kind, name)
    assert result.error_code == code
    assert result.error_message
    assert result.configs == []


async def test_hidden_topics_are_unknown() -> None:
    ctx = context(4)
    await ctx.services.topics.ensure_internal("__pykbroker_x")
    assert (await describe(ctx, 2, "__pykbroker_x")).error_code == 3


async def test_failed_names_every_resource() -> None:
    request = DescribeConfigsRequest(resources=[DescribeConfigsResource(resource_type=2, resource_name="a")])
    (result,) = failed(context(4), request, ErrorCode.UNKNOWN_SERVER_ERROR).results
    assert (result.error_code, result.resource_name) == (-1, "a")
