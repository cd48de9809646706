"""The server: listeners, the set of connections, and their common limits."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import trio

from pykbroker.apis._registry import Api, Services
from pykbroker.clock import Clock
from pykbroker.events import ConnectionChanged
from pykbroker.protocol.schema import Message
from pykbroker.server.connection import Connection
from pykbroker.server.dispatch import Dispatcher
from pykbroker.server.driver import Driver
from pykbroker.server.faults import Faults
from pykbroker.server.hub import Hub, LimitedLog
from pykbroker.server.limits import ServerLimits
from pykbroker.server.statistics import ServerStatistics
from pykbroker.server.timers import Timers

log = logging.getLogger(__name__)

Address = tuple[str, int]

OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ACCEPT_PAUSE_S = 0.1
"""After the system refused a further descriptor; the clients wait in the backlog."""

ACCEPTS = 64
"""Connections taken in a row before others get a turn."""

IDLE_CHECK_S = 1.0
"""Idle connections are looked for at most this often."""


class Server:
    """Serves ``apis`` on listening sockets.

    :meth:`serve` owns everything: listeners, connections, tasks.  Cancelling it is the hard stop,
    :meth:`drain` the soft one.  ``on_connection`` hears of every connection twice.
    """

    def __init__(
        self,
        services: Services,
        apis: Mapping[int, Api[Message, Message]],
        limits: ServerLimits,
        clock: Clock,
        faults: Faults | None = None,
        on_connection: Callable[[ConnectionChanged], None] | None = None,
    ) -> None:
        self._hub = Hub(clock, limits, Timers(clock))
        self._dispatcher = Dispatcher(services, apis, limits, clock, faults)
        self._warnings = LimitedLog(log, clock)
        self._on_connection = on_connection
        self._drivers: set[Driver] = set()
        self._by_host: Counter[str] = Counter()
        self._accepting = trio.CancelScope()
        self._serving = trio.CancelScope()
        self._stopped: trio.Event | None = None

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener | socket.socket],
        names: Sequence[str] = (),
        *,
        task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and serve until drained or cancelled; owns ``listeners`` and closes them.

        ``names`` are what handlers are told of the listener that a client came by.
        ``task_status.started`` gets the addresses listened on.
        """
        socks = [_plain(listener) for listener in listeners]
        self._stopped = trio.Event()
        try:
            with self._serving:
                async with trio.open_nursery() as background:
                    background.start_soon(self._hub.timers.run)
                    background.start_soon(self._close_idle)
                    async with trio.open_nursery() as connections:
                        connections.start_soon(
                            self._accept_all, socks, names or [""] * len(socks), connections
                        )
                        task_status.started([sock.getsockname()[:2] for sock in socks])
                    background.cancel_scope.cancel()
        finally:
            for sock in socks:
                sock.close()
            self._stopped.set()

    async def drain(self, deadline: float) -> None:
        """Stop accepting, answer what is in flight, close; what is left at ``deadline`` (seconds of the
        clock's ``monotonic``) is cut off.  Returns when all connections are closed; ``serve`` then returns.
        """
        self._hub.draining = True
        self._accepting.cancel()
        for driver in list(self._drivers):
            driver.drain()
        if self._stopped is None:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cut_off, deadline)
            await self._stopped.wait()
            nursery.cancel_scope.cancel()

    def limit(self, limits: ServerLimits) -> None:
        """Take other limits from now on; connections that are open keep their request sizes, and stay."""
        self._hub.limits = limits

    def statistics(self) -> ServerStatistics:
        """A snapshot of the counters."""
        hub, counters = self._hub, self._dispatcher.counters
        return ServerStatistics(
            connections=len(self._drivers),
            accepted=hub.accepted,
            refused=hub.refused,
            closed_idle=hub.closed_idle,
            closed_malformed=hub.closed_malformed,
            closed_memory=hub.closed_memory,
            requests=counters.requests,
            failures=counters.failures,
            parked=hub.parked,
            buffered_bytes=hub.buffered,
            bytes_in=hub.bytes_in,
            bytes_out=hub.bytes_out,
        )

    # -- accepting --------------------------------------------------------------------------------

    async def _accept_all(
        self, socks: Sequence[socket.socket], names: Sequence[str], connections: trio.Nursery
    ) -> None:
        """Accept on all listeners; a connection's task lives in ``connections``, which outlives this."""
        with self._accepting:
            async with trio.open_nursery() as accepting:
                for sock, name in zip(socks, names, strict=True):
                    accepting.start_soon(self._accept, sock, name, connections)
        for sock in socks:
            sock.close()

    async def _accept(self, listener: socket.socket, name: str, connections: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(ACCEPTS):
                try:
                    sock, address = listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno not in OUT_OF_RESOURCES:
                        continue  # the client left again before it was accepted
                    self._warnings.warning("cannot accept a connection error=%s", error)
                    await trio.sleep(ACCEPT_PAUSE_S)
                    break
                self._admit(sock, address, name, connections)

    def _admit(self, sock: socket.socket, address: Address, name: str, connections: trio.Nursery) -> None:
        hub, host = self._hub, str(address[0])
        if len(self._drivers) >= hub.limits.max_connections:
            self._refuse(sock, host, f"{len(self._drivers)} are open")
            return
        if self._by_host[host] >= hub.limits.max_connections_per_ip:
            self._refuse(sock, host, f"{self._by_host[host]} are open from there")
            return
        hub.accepted += 1
        _prepare(sock, hub.limits)
        core = Connection(self._dispatcher, hub.limits, host, hub.accepted, name)
        driver = Driver(hub, sock, core, self._warnings)
        self._drivers.add(driver)
        self._by_host[host] += 1
        connections.start_soon(self._run, driver, host)

    def _refuse(self, sock: socket.socket, host: str, reason: str) -> None:
        self._hub.refused += 1
        sock.close()
        self._warnings.warning("refused a connection peer=%s reason=%s", host, reason)

    async def _run(self, driver: Driver, host: str) -> None:
        if self._on_connection is not None:
            self._on_connection(_changed(driver, "opened"))
        try:
            await driver.run()
        finally:
            if self._on_connection is not None:
                gone = "the broker stopped" if self._hub.draining else "the client left"
                self._on_connection(_changed(driver, "closed", driver.ended or gone))
            self._drivers.discard(driver)
            self._by_host[host] -= 1
            if not self._by_host[host]:
                del self._by_host[host]

    # -- background -------------------------------------------------------------------------------

    async def _close_idle(self) -> None:
        clock, timeout = self._hub.clock, self._hub.limits.idle_timeout_s
        while True:
            now = clock.monotonic()
            oldest = now
            for driver in list(self._drivers):
                if driver.busy:
                    continue
                if driver.last_active + timeout <= now:
                    self._hub.closed_idle += 1
                    driver.ended = "idle"
                    driver.close()
                else:
                    oldest = min(oldest, driver.last_active)
            await clock.wait_until(max(oldest + timeout, now + min(IDLE_CHECK_S, timeout)))

    async def _cut_off(self, deadline: float) -> None:
        await self._hub.clock.wait_until(deadline)
        if self._drivers:
            log.warning("cut off connections that were still busy count=%d", len(self._drivers))
        self._serving.cancel()


def _changed(driver: Driver, change: str, reason: str = "") -> ConnectionChanged:
    peer = driver.peer
    return ConnectionChanged(
        change=change,
        connection_id=peer.connection_id,
        client_host=peer.host,
        client_id=peer.client_id,
        requests=peer.requests,
        reason=reason,
    )


def _prepare(sock: socket.socket, limits: ServerLimits) -> None:
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if limits.send_buffer_bytes > 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.send_buffer_bytes)
    if limits.receive_buffer_bytes > 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.receive_buffer_bytes)


def _plain(listener: trio.SocketListener | socket.socket) -> socket.socket:
    """A non-blocking socket of the standard library; trio's hides the one that it wraps."""
    if isinstance(listener, trio.SocketListener):
        sock = socket.socket(fileno=os.dup(listener.socket.fileno()))
        listener.socket.close()
    else:
        sock = listener
    sock.setblocking(False)
    return sock
