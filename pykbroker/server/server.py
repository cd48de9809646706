"""The server: listeners, the set of connections, and their common limits."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

import trio

from pykbroker.apis._registry import Api, Services
from pykbroker.clock import Clock
from pykbroker.protocol.schema import Message
from pykbroker.server.faults import Faults
from pykbroker.server.limits import ServerLimits
from pykbroker.server.statistics import ServerStatistics

Address = tuple[str, int]


class Server:
    """Serves ``apis`` on listening sockets."""

    def __init__(
        self,
        services: Services,
        apis: Mapping[int, Api[Message, Message]],
        limits: ServerLimits,
        clock: Clock,
        faults: Faults | None = None,
    ) -> None:
        raise NotImplementedError

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener | socket.socket],
        *,
        task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and serve until drained or cancelled; owns ``listeners`` and closes them.

        ``task_status.started`` gets the addresses listened on.
        """
        raise NotImplementedError

    async def drain(self, deadline: float) -> None:
        """Stop accepting, answer what is in flight, close; what is left at ``deadline`` (seconds of the
        clock's ``monotonic``) is cut off.  Returns when all connections are closed; ``serve`` then returns.
        """
        raise NotImplementedError

    def statistics(self) -> ServerStatistics:
        """A snapshot of the counters."""
        raise NotImplementedError
