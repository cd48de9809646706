"""The plugins of one broker: found, checked, built when needed, and kept from doing harm.

``manager`` is what the rooms above talk to (:class:`Plugins`); ``discovery`` finds modules,
``registry`` holds components and their settings, ``containment`` calls them, ``watchdog`` names those
that hold the broker up.  Nothing here is global: each broker has its own.
"""

from pykbroker.plugins.containment import ComponentFault, Guard
from pykbroker.plugins.manager import Plugins
from pykbroker.plugins.registry import ComponentUnavailable, PluginInfo, Problem

__all__ = ["ComponentFault", "ComponentUnavailable", "Guard", "PluginInfo", "Plugins", "Problem"]
