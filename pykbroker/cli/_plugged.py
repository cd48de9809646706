"""Commands that plugins bring: ``pykbroker <name>`` for each component that an installed plugin offers.

Plugins are loaded only when somebody lists the commands, or calls one that pykbroker does not have.
Settings come from the environment, where plugins can be blocked.  A name of pykbroker's own is refused.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from functools import cache

import click

log = logging.getLogger(__name__)


def names(own: Collection[str]) -> list[str]:
    """The commands of plugins, sorted, without names in ``own``."""
    found = _commands()
    for name in sorted(found.keys() & set(own)):
        log.warning("a plugin's command is left out: pykbroker has one of the name %s", name)
    return sorted(found.keys() - set(own))


def command(name: str) -> click.Command | None:
    """The command of this name, if a plugin brings it."""
    return _commands().get(name)


@cache
def _commands() -> Mapping[str, click.Command]:
    from pykbroker.components import COMMAND
    from pykbroker.config import BrokerConfig, ConfigError
    from pykbroker.errors import KafkaError
    from pykbroker.plugins import Plugins

    try:
        plugins = Plugins.load(BrokerConfig.load(None, os.environ, []))
    except ConfigError as error:
        log.warning("plugins' commands are missing: %s", error)
        return {}
    found: dict[str, click.Command] = {}
    for name in plugins.components(COMMAND):
        try:
            made: object = plugins.build(COMMAND, name)
        except KafkaError as error:
            log.warning("a plugin's command is missing: command=%s error=%s", name, error.message)
            continue
        if isinstance(made, click.Command):
            found[name] = made
        else:
            log.warning("a plugin's command is missing: command=%s is no click.Command", name)
    plugins.close()
    return found
