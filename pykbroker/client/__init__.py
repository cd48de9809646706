"""A small trio client on protocol/: for the command line, tests, later replication and gateways."""

from __future__ import annotations

from pykbroker.client.client import Client
from pykbroker.client.connection import BrokerConnection, ConnectionLost, connect

__all__ = ["BrokerConnection", "Client", "ConnectionLost", "connect"]
