"""Flows without a retry topic that nothing is in are deleted.

What is planned may come to a flow at any time, also while the catalog writes down that it is deleted.  So
its logs are sealed in the very step that finds them empty: nobody is told that something is there which is
about to go.  Who has copies for it waits, and finds out what became of it: another flow, or this one again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import trio

from pykbroker.catalog.retrying import HELD_PREFIX, delayed_name, flow_id_of, held_name, role_of
from pykbroker.errors import KafkaError

if TYPE_CHECKING:
    from pykbroker.catalog.catalog import Catalog
    from pykbroker.delivery.flow_lane import FlowPartition
    from pykbroker.delivery.topics import DeliveryTopics
    from pykbroker.forwarding.engine import Engine
    from pykbroker.partitions.manager import Partitions

log = logging.getLogger(__name__)

LOOK: Final = 200
"""Topics looked at between two checkpoints of the loop."""


class Dropping:
    """``flows`` are those of the broker, live, by the name of the held log and the partition."""

    def __init__(
        self,
        catalog: Catalog,
        topics: DeliveryTopics,
        partitions: Partitions,
        engine: Engine,
        flows: Mapping[tuple[str, int], FlowPartition],
    ) -> None:
        self._catalog = catalog
        self._topics = topics
        self._partitions = partitions
        self._engine = engine
        self._flows = flows
        self._at_it = trio.Lock()

    async def drop_empty(self) -> None:
        """Delete the flows that nothing is in, if there is no retry topic in front of them."""
        async with self._at_it:  # or one who gives up would unseal what another one deletes
            for number, (name, topic) in enumerate(self._catalog.image.topics.items(), 1):
                if not number % LOOK:
                    await trio.lowlevel.checkpoint()
                role = role_of(topic) if name.startswith(HELD_PREFIX) else None
                flow_id = None if role is None else flow_id_of(name)
                if role is None or flow_id is None or role.text in self._catalog.retrying.by_role:
                    continue
                if self._is_empty(flow_id):
                    await self._drop(flow_id, role.text)

    def _is_empty(self, flow_id: bytes) -> bool:
        """Whether nothing is in a flow, or planned to come.  Logs that were never used are not open; nobody
        knows what is in those that could not be opened."""
        names = (delayed_name(flow_id), held_name(flow_id))
        topics = [topic for name in names if (topic := self._catalog.image.topics.get(name)) is not None]
        if any(
            self._partitions.is_offline(topic.name, each.index)
            for topic in topics
            for each in topic.partitions
        ):
            return False
        count = max((len(topic.partitions) for topic in topics), default=0)
        flows = (self._flows.get((names[1], number)) for number in range(count))
        if not all(flow is None or flow.is_empty(self._engine) for flow in flows):
            return False
        return not self._engine.is_target({topic.topic_id for topic in topics})

    async def _drop(self, flow_id: bytes, role: str) -> None:
        """Delete a flow that is empty now: nothing is waited for before it is sealed."""
        topics = self._catalog.image.topics
        names = (delayed_name(flow_id), held_name(flow_id))
        sealed = {topic.topic_id for name in names if (topic := topics.get(name)) is not None}
        self._partitions.seal(sealed)
        dropped = False
        try:
            dropped = await self._topics.drop_flow(flow_id, sealed)
        except KafkaError as error:
            log.warning("an empty flow is not deleted yet: role=%s: %s", role, error)
        # Not in a ``finally``: who is cancelled does not know whether it will be deleted all the same.
        if dropped:
            log.info("an empty flow without a retry topic is deleted: role=%s", role)
        else:
            self._partitions.unseal(sealed)
