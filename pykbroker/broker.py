"""The broker: what it is made of, and its life from start to stop.

Start: hold the data directory, read who we are, bind the ports, open the catalog, be elected (the
leader epoch of everything rises after an unclean stop), open the logs, then the coordinator, and last
the server.  Stop, which is a cancellation of :meth:`Broker.run`, goes the other way: no new
connections, answers in flight leave, members are told, everything is flushed, the clean mark is
written, the data directory is released.
"""

from __future__ import annotations

import logging
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import trio

from pykbroker import _guests, _sockets
from pykbroker._datadir import DataDirectory, Identity, StartError, identify
from pykbroker._version import __version__
from pykbroker.apis import _registry
from pykbroker.apis._fetch_sessions import FetchSessions
from pykbroker.apis._registry import Services
from pykbroker.catalog.catalog import Catalog
from pykbroker.catalog.changes import Elect, RegisterBroker
from pykbroker.catalog.delta import Delta
from pykbroker.catalog.exchange_types import PluginExchangeTypes
from pykbroker.catalog.image import BrokerInfo, Image
from pykbroker.catalog.local import CatalogError, LocalCatalog
from pykbroker.catalog.policies import Policies
from pykbroker.catalog.producer_ids import ProducerIds
from pykbroker.catalog.topics import TopicAdmin
from pykbroker.clock import Clock, SystemClock
from pykbroker.config import BrokerConfig, ConfigError, Endpoint
from pykbroker.delivery.service import Delivery
from pykbroker.errors import KafkaError
from pykbroker.events import BrokerStarted
from pykbroker.forwarding.service import Forwarding
from pykbroker.groups.service import GroupCoordinator
from pykbroker.log import checkpoints, descriptors
from pykbroker.partitions.admission import Admission
from pykbroker.partitions.manager import Partitions
from pykbroker.plugins import Plugins
from pykbroker.routing import Routes
from pykbroker.routing.compiled import PluginCompiler
from pykbroker.server import Faults, Server, ServerLimits

__all__ = ["Broker", "StartError", "cause_of"]

log = logging.getLogger(__name__)

DRAIN_S = 0.8
"""Time for answers in flight at a stop: the whole stop has two seconds, and flushing needs the rest."""

Progress = Callable[[int, int, str], None]
"""Called as ``(done, total, what)`` while logs are opened."""


class Broker:
    """One broker on one data directory.  ``await run()`` is its life; cancelling that is its stop.

    ``plugins`` are loaded already, or what to load beside those that are found anyway: module names,
    files, plugin objects.  ``faults`` is for tests: rules by which the server misbehaves.
    ``ready_file`` gets what ``pykbroker.json`` in the data directory gets.
    """

    def __init__(
        self,
        config: BrokerConfig,
        *,
        clock: Clock | None = None,
        plugins: Plugins | Sequence[object] = (),
        faults: Faults | None = None,
        ready_file: Path | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.clock: Clock = SystemClock() if clock is None else clock
        self.faults = Faults() if faults is None else faults
        self.listeners: tuple[str, ...] = ()
        """Where it listens, as ``host:port`` with the real port."""
        self.bootstrap = ""
        """What a client on this machine takes as ``bootstrap_servers``."""
        self._plugins = plugins
        self._ready_file = ready_file
        self._on_progress = on_progress
        self._services: Services | None = None
        self._catalog: LocalCatalog | None = None
        self._stop = trio.Event()
        self._begun = time.monotonic()

    @property
    def services(self) -> Services:
        """The rooms of the running broker."""
        assert self._services is not None, "the broker has not started"
        return self._services

    async def run(self, *, task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED) -> None:
        """Start, report the listeners, serve until cancelled, stop in order.

        Raises :class:`StartError` when it cannot start.
        """
        raise_descriptor_limit()
        directory = DataDirectory(self.config.data_dir, self._ready_file)
        directory.hold()
        try:
            sockets = self._bind()
            try:
                await self._start()
                await self._live(directory, sockets, task_status)
            finally:
                for sock in sockets:
                    sock.close()
        finally:
            if self._services is not None:
                self._services.plugins.close()
            directory.release()

    def _bind(self) -> list[socket.socket]:
        """Bind all listeners; fills in :attr:`listeners` and :attr:`bootstrap`."""
        bound: list[Endpoint] = []
        sockets: list[socket.socket] = []
        names: list[str] = []
        for endpoint in self.config.listen_endpoints():
            try:
                real, more = _sockets.bind(endpoint)
            except OSError as error:
                for sock in sockets:
                    sock.close()
                raise StartError(
                    f"cannot listen on {_sockets.text(endpoint)}: {error.strerror}",
                    "Stop what uses that port, or choose another address: --listen HOST:PORT (port 0: any)",
                ) from error
            bound.append(real)
            sockets += more
            names += [endpoint.name] * len(more)
        self._names = tuple(names)
        self._endpoints = _advertised(self.config.advertised_endpoints(), bound)
        self.listeners = tuple(_sockets.text(each) for each in bound)
        first = bound[0]
        local = Endpoint(first.name, "localhost", first.port) if first.host in _sockets.WILDCARDS else first
        self.bootstrap = _sockets.text(local)
        return sockets

    async def _start(self) -> None:
        """Open everything; what goes wrong on the way is told as :class:`StartError`."""
        plugins = self._load_plugins()
        try:
            await self._open(identify(self.config.data_dir, self.config.node_id), plugins)
        except CatalogError as error:
            raise StartError(
                str(error), "The catalog says what exists: without it nothing can be served"
            ) from error
        except (OSError, KafkaError) as error:
            raise StartError(
                f"data directory {self.config.data_dir} cannot be opened: {error}",
                "Look for a full disk, permissions, or a failing disk",
            ) from error

    def _load_plugins(self) -> Plugins:
        """Load what is not loaded yet; the config knows their settings from here on."""
        plugins = self._plugins
        if not isinstance(plugins, Plugins):
            try:
                plugins = Plugins.load(self.config, extra=plugins, time_ms=self.clock.time_ms)
            except (ConfigError, LookupError) as error:
                raise StartError(str(error), "See what there is: pykbroker plugins") from error
        self.config = plugins.config
        return plugins

    async def _open(self, identity: Identity, plugins: Plugins) -> None:
        """Open catalog and logs, and make the services on top of them."""
        config, clock = self.config, self.clock
        clean = identity.new or (config.data_dir / checkpoints.CLEAN_SHUTDOWN).exists()
        catalog = await trio.to_thread.run_sync(
            lambda: LocalCatalog.open(config.data_dir, config, cluster_id=identity.cluster_id, clock=clock)
        )
        self._catalog = catalog
        plugins.reconfigure(catalog.broker_config)
        catalog.exchange_rules.types = PluginExchangeTypes(plugins)
        catalog.subscribe(lambda delta: _tell(plugins, catalog, delta))
        routes = Routes(PluginCompiler(plugins), catalog.image)
        catalog.subscribe(lambda delta: routes.follow(delta.after))
        if not clean:
            log.warning("the last stop was not clean: logs are recovered, leader epochs rise")
        await catalog.update(lambda image: self._registration(image, elect=not clean))
        partitions = Partitions(catalog, config.data_dir, clock)
        await partitions.open_all(catalog.image, on_progress=self._on_progress)
        catalog.subscribe(partitions.on_delta)
        admission = Admission(catalog, plugins)
        catalog.subscribe(admission.on_delta)
        if (tell_topics := _guests.topic_changes(plugins)) is not None:
            catalog.subscribe(tell_topics)
        policies = Policies(plugins)
        topics = TopicAdmin(catalog, policies)
        producer_ids = ProducerIds(catalog)
        on_appended = _guests.appends(plugins)
        forwarding = Forwarding(
            clock, catalog, topics, partitions, producer_ids, plugins, routes, on_appended
        )
        catalog.subscribe(forwarding.on_delta)
        catalog.exchange_rules.boundaries = forwarding.boundaries
        catalog.exchange_rules.passed = forwarding.passed
        groups = GroupCoordinator(config, clock, catalog, topics, partitions, _guests.group_changes(plugins))
        delivery = Delivery(clock, catalog, topics, partitions, groups, forwarding, plugins, config.data_dir)
        catalog.subscribe(delivery.on_delta)
        self._services = Services(
            config=config,
            clock=clock,
            catalog=catalog,
            topics=topics,
            partitions=partitions,
            groups=groups,
            producer_ids=producer_ids,
            fetch_sessions=FetchSessions(config.max_incremental_fetch_session_cache_slots),
            plugins=plugins,
            policies=policies,
            admission=admission.topics,
            forwarding=forwarding,
            delivery=delivery,
            on_appended=on_appended,
        )

    def _registration(self, image: Image, *, elect: bool) -> list[RegisterBroker | Elect]:
        """What the catalog must be told at this start: nothing, if nothing changed."""
        node_id = self.config.node_id
        known = image.brokers.get(node_id)
        info = BrokerInfo(node_id=node_id, endpoints=self._endpoints, rack=self.config.broker_rack)
        changes: list[RegisterBroker | Elect] = []
        if known is None or (known.endpoints, known.rack) != (info.endpoints, info.rack):
            changes.append(RegisterBroker(node_id=node_id, endpoints=info.endpoints, rack=info.rack))
        if elect:
            changes.append(Elect(node_id=node_id))
        return changes

    async def _live(
        self,
        directory: DataDirectory,
        sockets: list[socket.socket],
        task_status: trio.TaskStatus[tuple[str, ...]],
    ) -> None:
        """Run everything until this task is cancelled, then wait for the stop to be done."""
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(self._serve, sockets)
                self._publish(directory)
                task_status.started(self.listeners)
                await trio.sleep_forever()
            finally:
                self._stop.set()

    async def _serve(
        self, sockets: list[socket.socket], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """The running services, shielded: they end in order when ``_stop`` is set."""
        guests = _guests.Guests(self.services.plugins, self.clock.time_ms)
        with trio.CancelScope(shield=True):
            # Outermost, so that what plugins do not end holds nothing up but the end of the process.
            async with trio.open_nursery() as outer:
                await self._serve_until_stopped(sockets, guests, outer, task_status)

    async def _serve_until_stopped(
        self,
        sockets: list[socket.socket],
        guests: _guests.Guests,
        outer: trio.Nursery,
        task_status: trio.TaskStatus[None],
    ) -> None:
        services, server = self.services, self._server()
        async with trio.open_nursery() as upkeep:
            await upkeep.start(services.partitions.run)
            await upkeep.start(services.groups.run)
            assert services.forwarding is not None
            assert services.delivery is not None
            await upkeep.start(services.forwarding.run)
            await upkeep.start(services.delivery.run)
            async with trio.open_nursery() as front:
                for sock in sockets:
                    sock.listen(self.config.socket_listen_backlog_size)
                await front.start(server.serve, sockets, self._names)
                outer.start_soon(guests.run, self._started_event())
                task_status.started()
                await self._stop.wait()
                begun = time.monotonic()
                await guests.stop()
                # First, so that members that wait for a rebalance are told, and hold nothing up.
                await services.groups.shutdown()
                await server.drain(self.clock.monotonic() + DRAIN_S)
                await services.delivery.shutdown()
                await services.forwarding.shutdown()
            upkeep.cancel_scope.cancel()
        await services.partitions.shutdown()
        assert self._catalog is not None
        await trio.to_thread.run_sync(self._catalog.close)
        log.info("stopped: everything is flushed seconds=%.3f", time.monotonic() - begun)

    def _started_event(self) -> BrokerStarted:
        return BrokerStarted(
            bootstrap=self.bootstrap,
            listeners=self.listeners,
            node_id=self.config.node_id,
            cluster_id=self.services.catalog.image.cluster_id,
            data_dir=self.config.data_dir,
        )

    def _server(self) -> Server:
        catalog = self.services.catalog
        limits = _limits(catalog.broker_config)
        heard = self.services.plugins.listeners("pykbroker_connection_changed")
        server = Server(self.services, _registry.load(), limits, self.clock, self.faults, heard)

        def follow(delta: Delta) -> None:
            if delta.broker_settings:
                server.limit(_limits(catalog.broker_config))

        catalog.subscribe(follow)
        return server

    def _publish(self, directory: DataDirectory) -> None:
        image = self.services.catalog.image
        info = {
            "pid": directory.pid,
            "listeners": list(self.listeners),
            "advertised": [_sockets.text(each) for each in self._endpoints],
            "bootstrap": self.bootstrap,
            "data_dir": str(self.config.data_dir.absolute()),
            "cluster_id": image.cluster_id,
            "node_id": self.config.node_id,
            "version": __version__,
        }
        directory.publish(info)
        log.info(
            "listening on %s: data_dir=%s cluster_id=%s topics=%d seconds=%.3f",
            ", ".join(self.listeners),
            self.config.data_dir,
            image.cluster_id,
            len(image.topics),
            time.monotonic() - self._begun,
        )


def _advertised(wanted: Sequence[Endpoint] | None, bound: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """What clients are told, for each listener's name."""
    if not wanted:
        return tuple(_reachable(each) for each in bound)
    ports = {each.name: each.port for each in bound}
    return tuple(Endpoint(each.name, each.host, each.port or ports[each.name]) for each in wanted)


def _reachable(endpoint: Endpoint) -> Endpoint:
    """The endpoint as clients are told it: a machine's name in place of "all interfaces"."""
    if endpoint.host not in _sockets.WILDCARDS:
        return endpoint
    host = socket.gethostname()
    log.warning("clients are told to connect to %s; --advertise HOST:PORT says otherwise", host)
    return Endpoint(endpoint.name, host, endpoint.port)


def _tell(plugins: Plugins, catalog: Catalog, delta: Delta) -> None:
    """Have the plugins follow the catalog.  The first of its subscribers: others build from them."""
    if delta.broker_settings:
        plugins.reconfigure(catalog.broker_config)
    for topic in delta.deleted:
        plugins.forget(topic.name)


def _limits(config: BrokerConfig) -> ServerLimits:
    limits = ServerLimits.of(config)
    return replace(limits, max_connections=min(limits.max_connections, connections_possible()))


def connections_possible() -> int:
    """Connections that leave enough open files for logs, the catalog and checkpoints.

    Without that ceiling a few hundred idle clients take the last one, and then nothing can be written.
    """
    allowed, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, allowed - descriptors.shared().limit - min(128, allowed // 4))


def raise_descriptor_limit() -> None:
    """Allow this process as many open files as it may have: connections and segments need them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        # macOS reports an unlimited hard limit and refuses more than OPEN_MAX (10240).
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(10240, hard) if hard >= 0 else 10240, hard))


def cause_of(error: BaseException) -> BaseException:
    """The one exception inside nested groups that nurseries put around it; the group if there are more."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
