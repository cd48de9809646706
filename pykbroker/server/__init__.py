"""Listening sockets: a connection is a sans-IO core (bytes in, answers out, in order) with a trio driver."""

from __future__ import annotations

from pykbroker.server.faults import Fault, Faults
from pykbroker.server.limits import ServerLimits
from pykbroker.server.server import Server
from pykbroker.server.statistics import ServerStatistics

__all__ = ["Fault", "Faults", "Server", "ServerLimits", "ServerStatistics"]
