"""What plugins are told of the broker's life, and the tasks of theirs that run beside it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator

import trio

from pykbroker.catalog.delta import Delta
from pykbroker.catalog.image import HIDDEN_PREFIX, INTERNAL, Topic
from pykbroker.components import SERVICE, ServiceContext, Settings
from pykbroker.errors import KafkaError
from pykbroker.events import BrokerStarted, BrokerStopping, GroupChanged, RecordsAppended, TopicChanged
from pykbroker.groups.group import Group
from pykbroker.groups.machine import OnChanged
from pykbroker.groups.states import GroupState
from pykbroker.plugins import ComponentFault, Plugins

log = logging.getLogger(__name__)

STOPPING_S = 0.5
"""Time that each plugin has when it hears that the broker stops."""
ENDING_S = 0.3
"""Time that services have to end when they are cancelled; then the broker goes on stopping without."""


def topic_changes(plugins: Plugins) -> Callable[[Delta], None] | None:
    """What tells plugins of topics, as a subscriber of the catalog; None if no plugin listens."""
    tell = plugins.listeners("pykbroker_topic_changed")
    if tell is None:
        return None

    def on_delta(delta: Delta) -> None:
        for change, topic in _changes(delta):
            tell(
                TopicChanged(
                    change=change,
                    topic=topic.name,
                    topic_id=topic.topic_id,
                    partitions=len(topic.partitions),
                    settings=dict(topic.overrides),
                )
            )

    return on_delta


def _changes(delta: Delta) -> Iterator[tuple[str, Topic]]:
    for topic in delta.deleted:
        yield "deleted", topic
    for topic in delta.created:
        yield "created", topic
    for topic in delta.changed:
        if len(topic.partitions) > len(delta.before.topics[topic.name].partitions):
            yield "grown", topic
    for topic in delta.reconfigured:
        yield "altered", topic


def appends(plugins: Plugins) -> Callable[[RecordsAppended], None] | None:
    """What tells plugins of appends to topics that are not the broker's own; None if no plugin listens."""
    tell = plugins.listeners("pykbroker_records_appended")
    if tell is None:
        return None

    def on_appended(event: RecordsAppended) -> None:
        if not event.topic.startswith(HIDDEN_PREFIX) and event.topic not in INTERNAL:
            tell(event)

    return on_appended


def group_changes(plugins: Plugins) -> OnChanged | None:
    """What tells plugins of groups; None if no plugin listens."""
    tell = plugins.listeners("pykbroker_group_changed")
    if tell is None:
        return None

    def on_changed(group: Group, before: GroupState, after: GroupState) -> None:
        tell(
            GroupChanged(
                group=group.group_id,
                before=before.value,
                after=after.value,
                generation=group.generation,
                members=len(group.members),
            )
        )

    return on_changed


class Guests:
    """Plugins' background tasks.  Life: ``nursery.start_soon(run, event)`` once the broker listens, then
    ``await stop()``.

    A service that returns or fails is not started again: the log says that it failed, and the broker
    goes on without.  One that does not end when it is cancelled keeps :meth:`run` from ending, not
    :meth:`stop`: everything else is flushed and closed before the process waits for it.
    """

    def __init__(self, plugins: Plugins, time_ms: Callable[[], int]) -> None:
        self._plugins = plugins
        self._time_ms = time_ms
        self._scope = trio.CancelScope()
        self._running: set[str] = set()
        self._ended = trio.Event()
        self._bootstrap = ""

    async def run(self, started: BrokerStarted) -> None:
        """Run all services until stopped, and tell that the broker listens once each has begun."""
        self._bootstrap = started.bootstrap
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for name in self._plugins.components(SERVICE):
                        await nursery.start(self._serve, name, started)
                    nursery.start_soon(self._plugins.notify, "pykbroker_started", started)
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Tell that the broker stops, and cancel all services; waits a moment for them."""
        await self._plugins.notify(
            "pykbroker_stopping", BrokerStopping(bootstrap=self._bootstrap), limit_s=STOPPING_S
        )
        self._scope.cancel()
        with trio.move_on_after(ENDING_S):
            await self._ended.wait()
        if self._running:
            log.error("services do not end when they are cancelled: services=%s", ", ".join(self._running))

    async def _serve(
        self,
        name: str,
        started: BrokerStarted,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        task_status.started()  # whoever waits goes on when the service first waits: it has begun by then
        plugins = self._plugins
        guard = plugins.guard(SERVICE, name)
        self._running.add(name)
        try:
            run: Callable[[ServiceContext], object] = plugins.build(SERVICE, name).run
            context = self._context(plugins.settings(SERVICE, name), started)
            await guard.wait(run, context, limit_s=math.inf)
        except KafkaError as error:
            log.error("a service cannot be started: service=%s error=%s", name, error.message)
        except ComponentFault:
            log.error("a service has ended, and is not started again: service=%s", name)
        else:
            log.debug("a service has ended: service=%s", name)
        finally:
            self._running.discard(name)

    def _context(self, settings: Settings, started: BrokerStarted) -> ServiceContext:
        return ServiceContext(
            bootstrap=started.bootstrap,
            listeners=started.listeners,
            node_id=started.node_id,
            cluster_id=started.cluster_id,
            data_dir=started.data_dir,
            settings=settings,
            time_ms=self._time_ms,
        )
