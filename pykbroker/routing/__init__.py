"""Where a record goes: pure, no file, no socket, no clock.

``keys`` finds a record's routing key, ``compiled`` is one version of one exchange made ready, ``table``
computes the closure over exchanges, ``routes`` follows the catalog and knows which table was in force
for which record.  The exchange types themselves are plugins (``pykbroker_exchanges``); the form of
bindings as JSON is ``pykbroker.catalog.bindings``, because the catalog checks them.
"""

from pykbroker.routing.keys import ROUTING_KEY, routing_key_of
from pykbroker.routing.routes import Routes
from pykbroker.routing.table import Explained, Routed, RoutingTable, Step

__all__ = ["ROUTING_KEY", "Explained", "Routed", "Routes", "RoutingTable", "Step", "routing_key_of"]
