"""AlterConfigs: everything that is not named goes back to its default."""

from __future__ import annotations

from pykbroker.apis.alter_configs import failed, handle
from pykbroker.catalog.topics import NewTopic
from pykbroker.errors import ErrorCode
from pykbroker.protocol.messages.alter_configs import (
    AlterableConfig,
    AlterConfigsRequest,
    AlterConfigsResource,
)
from tests.apis.admin_support import context, served


def request(name: str, **configs: str | None) -> AlterConfigsRequest:
    values = [AlterableConfig(name=n.replace("_", "."), value=v) for n, v in configs.items()]
    return AlterConfigsRequest(
        resources=[AlterConfigsResource(resource_type=2, resource_name=name, configs=values)]
    )


async def test_what_is_not_named_goes() -> None:
    ctx = context(2)
    await ctx.services.topics.create([NewTopic(name="a", overrides=[("segment.ms", "9")])])
    (answer,) = (await served(handle, ctx, request("a", retention_ms="5"))).responses
    assert (answer.error_code, answer.error_message) == (0, None)
    assert dict(ctx.services.catalog.image.topics["a"].overrides) == {"retention.ms": "5"}
    (answer,) = (await served(handle, ctx, request("a"))).responses
    assert answer.error_code == 0
    assert ctx.services.catalog.image.topics["a"].overrides == {}


async def test_refusals() -> None:
    ctx = context(2)
    await ctx.services.topics.create([NewTopic(name="a", overrides=[("segment.ms", "9")])])
    for asked, code in [
        (request("nope", retention_ms="5"), 3),
        (request("a", retention_ms=None), 42),
        (request("a", retention_ms="x"), 40),
    ]:
        (answer,) = (await served(handle, ctx, asked)).responses
        assert answer.error_code == code
    assert dict(ctx.services.catalog.image.topics["a"].overrides) == {"segment.ms": "9"}


async def test_failed_names_every_resource() -> None:
    (answer,) = failed(context(2), request("a"), ErrorCode.UNKNOWN_SERVER_ERROR).responses
    assert (answer.error_code, answer.resource_name) == (-1, "a")
