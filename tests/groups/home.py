"""A group coordinator on real partitions, asked through its handlers, as bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar, cast

import trio

from pykbroker.apis import _registry
from pykbroker.apis._fetch_sessions import FetchSessions
from pykbroker.apis._registry import RequestContext, Services
from pykbroker.catalog.memory import MemoryCatalog
from pykbroker.catalog.producer_ids import ProducerIds
from pykbroker.catalog.topics import NewTopic, TopicAdmin
from pykbroker.clock import MovableClock
from pykbroker.config import BrokerConfig
from pykbroker.groups.service import GroupCoordinator
from pykbroker.partitions.manager import Partitions
from pykbroker.protocol.codec import decode, encode
from pykbroker.protocol.schema import Message

R = TypeVar("R", bound=Message)


class Home:
    """One broker's rooms up to groups.  ``call`` sends a request through its handler."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.apis = _registry.load()

    @property
    def clock(self) -> MovableClock:
        assert isinstance(self.services.clock, MovableClock)
        return self.services.clock

    async def call(self, request: Message, answer: type[R], version: int) -> R:
        """The answer, having been through the bytes of ``version`` both ways."""
        entry = self.apis[request.message_key]
        ctx = RequestContext(
            services=self.services,
            api_key=entry.key,
            version=version,
            client_id="client",
            client_host="127.0.0.1",
            connection_id=1,
            now_ms=self.clock.time_ms(),
            now=self.clock.monotonic(),
        )
        given = entry.handle(ctx, decode(type(request), version, encode(request, version)))
        response = await cast("Awaitable[Message]", given)
        return decode(answer, version, encode(response, version))

    async def topic(self, name: str, partitions: int = 2) -> bytes:
        """Make a topic; returns its id."""
        (made,) = await self.services.topics.create([NewTopic(name=name, partitions=partitions)])
        assert not isinstance(made, Exception), made
        return made.topic_id


@asynccontextmanager
async def at_home(path: Path, catalog: MemoryCatalog | None = None, *sets: str) -> AsyncIterator[Home]:
    """Run the rooms on ``path``; a second time with the same catalog is a restart."""
    config = BrokerConfig.load(sets=("offsets.topic.num.partitions=3", *sets))
    clock = MovableClock()
    catalog = catalog or MemoryCatalog(config)
    partitions = Partitions(catalog, path, clock)
    await partitions.open_all(catalog.image)
    unsubscribe = catalog.subscribe(partitions.on_delta)
    topics = TopicAdmin(catalog)
    groups = GroupCoordinator(config, clock, catalog, topics, partitions)
    services = Services(
        config=config,
        clock=clock,
        catalog=catalog,
        topics=topics,
        partitions=partitions,
        groups=groups,
        producer_ids=ProducerIds(catalog),
        fetch_sessions=FetchSessions(0),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(partitions.run)
        await nursery.start(groups.run)
        yield Home(services)
        await groups.shutdown()
        nursery.cancel_scope.cancel()
    await partitions.shutdown()
    unsubscribe()
