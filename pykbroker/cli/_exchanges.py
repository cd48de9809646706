"""Exchanges as a client sees them: read from the described configs of topics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykbroker.cli._errors import Failed

if TYPE_CHECKING:
    from pykbroker.catalog.image import Image
    from pykbroker.client import Client
    from pykbroker.components import Binding
    from pykbroker.protocol.messages.describe_configs import DescribeConfigsResult

TYPE = "pykbroker.exchange.type"
BINDINGS = "pykbroker.exchange.bindings"
ALTERNATE = "pykbroker.exchange.alternate"
UNROUTABLE = "pykbroker.exchange.unroutable"

TOPIC = 2
"""The type of a topic as a config resource."""

SET, APPEND, SUBTRACT = 0, 2, 3

PAGES = 64
"""Pages of bindings that are asked for: a catalog object holds 1 MB, a page 32 KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One exchange.  ``settings`` are all values of the topic, as text."""

    name: str
    kind: str
    bindings: tuple[Binding, ...]
    settings: Mapping[str, str]

    @property
    def alternate(self) -> str | None:
        """The alternate exchange."""
        return self.settings.get(ALTERNATE) or None


async def exchanges(client: Client) -> dict[str, Described]:
    """All exchanges of the cluster, by name."""
    names = [each.name for each in (await client.metadata()).topics if each.name and not each.is_internal]
    kinds = {
        each.resource_name: config.value
        for each in await _describe(client, names, [TYPE])
        for config in each.configs
        if not each.error_code
    }
    found = [name for name, kind in kinds.items() if kind]
    wanted = [f"{BINDINGS}.{page}" for page in range(PAGES)]
    pages = {each.resource_name: each for each in await _describe(client, found, wanted)}
    return {
        each.resource_name: _described(each, pages[each.resource_name])
        for each in await _describe(client, sorted(found), None)
        if not each.error_code
    }


async def exchange(client: Client, name: str) -> Described:
    """The exchange ``name``; raises :class:`Failed` if there is none."""
    found = await exchanges(client)
    if name not in found:
        there = [each.name for each in (await client.metadata()).topics]
        what = "is a topic, not an exchange" if name in there else "does not exist"
        raise Failed(f"{name} {what}", "`pykbroker exchanges list` shows the exchanges there are")
    return found[name]


async def _describe(
    client: Client, names: Sequence[str], keys: list[str] | None
) -> Sequence[DescribeConfigsResult]:
    from pykbroker.protocol.messages.describe_configs import (
        DescribeConfigsRequest,
        DescribeConfigsResource,
        DescribeConfigsResponse,
    )

    if not names:
        return []
    resources = [
        DescribeConfigsResource(resource_type=TOPIC, resource_name=name, configuration_keys=keys)
        for name in names
    ]
    answer = await client.send(DescribeConfigsRequest(resources=resources), DescribeConfigsResponse)
    return answer.results


def _described(result: DescribeConfigsResult, pages: DescribeConfigsResult) -> Described:
    from pykbroker.catalog.bindings import parse

    settings = {config.name: config.value for config in result.configs if config.value is not None}
    texts = {config.name: config.value or "" for config in pages.configs}
    bound = [each for page in range(PAGES) for each in parse(texts.get(f"{BINDINGS}.{page}", ""))]
    return Described(name=result.resource_name, kind=settings[TYPE], bindings=tuple(bound), settings=settings)


async def alter(client: Client, name: str, changes: Iterable[tuple[str, int, str]]) -> None:
    """Change settings of a topic; ``changes`` are (setting, operation, value).  Raises KafkaError."""
    from pykbroker.errors import ErrorCode, KafkaError
    from pykbroker.protocol.messages.incremental_alter_configs import (
        AlterableConfig,
        AlterConfigsResource,
        IncrementalAlterConfigsRequest,
        IncrementalAlterConfigsResponse,
    )

    configs = [
        AlterableConfig(name=setting, config_operation=operation, value=value)
        for setting, operation, value in changes
    ]
    resource = AlterConfigsResource(resource_type=TOPIC, resource_name=name, configs=configs)
    request = IncrementalAlterConfigsRequest(resources=[resource])
    answer = await (await client.controller()).send(request, IncrementalAlterConfigsResponse)
    for each in answer.responses:
        if each.error_code:
            raise KafkaError(ErrorCode(each.error_code), each.error_message)


def image_of(found: Mapping[str, Described]) -> Image:
    """An image of nothing but these exchanges, for a routing table."""
    from pykbroker.catalog.exchange import Exchange, ExchangeVersion
    from pykbroker.catalog.image import Image, Topic

    versions = {
        name: ExchangeVersion(number=1, kind=each.kind, bindings=each.bindings, alternate=each.alternate)
        for name, each in found.items()
    }
    return Image(
        cluster_id="described",
        topics={
            name: Topic(name=name, topic_id=name.encode(), partitions=(), overrides=each.settings)
            for name, each in found.items()
        },
        exchanges={name: Exchange(name=name, versions=(each,)) for name, each in versions.items()},
    )
