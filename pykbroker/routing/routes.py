"""The routing tables of a broker: the current one, and those in force for records not yet forwarded."""

from __future__ import annotations

import bisect
from collections.abc import Mapping

from pykbroker.catalog.exchange import ExchangeVersion
from pykbroker.catalog.image import Image
from pykbroker.routing.compiled import CompiledExchange, Compiler
from pykbroker.routing.table import RoutingTable

OLD_TABLES = 16
"""Tables of the past that are kept at once; a forwarder that catches up goes through them in order."""


class Routes:
    """Follows the catalog; what did not change is not compiled again."""

    def __init__(self, compiler: Compiler, image: Image) -> None:
        self._compiler = compiler
        self._image = image
        self._compiled: dict[tuple[str, int], CompiledExchange] = {}
        self._changes: dict[tuple[bytes, int], list[int]] = {}
        self._old: dict[tuple[tuple[str, int], ...], RoutingTable] = {}
        self._current = self._table({name: each.current for name, each in image.exchanges.items()})

    @property
    def current(self) -> RoutingTable:
        """The table for what is produced now."""
        return self._current

    def follow(self, image: Image) -> None:
        """Take over another image; cheap where exchanges and their topics' settings are as they were."""
        before = self._image
        self._image = image
        if image.exchanges is before.exchanges and image.topics is before.topics:
            return
        stale = {
            name
            for name, exchange in image.exchanges.items()
            if before.exchanges.get(name) is not exchange or self._settings_changed(before, name)
        }
        gone = before.exchanges.keys() - image.exchanges.keys()
        if not stale and not gone:
            return
        self._forget(stale | gone)
        self._changes.clear()
        self._old.clear()
        self._current = self._table({name: each.current for name, each in image.exchanges.items()})

    def at(self, topic_id: bytes, partition: int, offset: int) -> tuple[RoutingTable, int | None]:
        """The table in force for the record at ``offset`` of an ingress log, and the offset at which
        another one takes over (None: none does)."""
        changes = self._changes.get((topic_id, partition))
        if changes is None:
            changes = self._changes[topic_id, partition] = self._changes_of(topic_id, partition)
        if not changes or offset >= changes[-1]:
            return self._current, None
        until = changes[bisect.bisect_right(changes, offset)]
        states = {name: each.at(topic_id, partition, offset) for name, each in self._image.exchanges.items()}
        key = tuple((name, version.number) for name, version in states.items())
        table = self._old.get(key)
        if table is None:
            if len(self._old) >= OLD_TABLES:
                self._old.pop(next(iter(self._old)))
            table = self._old[key] = self._table(states)
        return table, until

    def _changes_of(self, topic_id: bytes, partition: int) -> list[int]:
        """The offsets of one ingress partition at which anything changes, in order."""
        found = {
            version.begins(topic_id, partition)
            for exchange in self._image.exchanges.values()
            for version in exchange.versions[1:]
        }
        return sorted(found - {0})

    def _table(self, states: dict[str, ExchangeVersion]) -> RoutingTable:
        return RoutingTable(
            {name: self._exchange(name, version) for name, version in states.items() if version.kind}
        )

    def _exchange(self, name: str, version: ExchangeVersion) -> CompiledExchange:
        compiled = self._compiled.get((name, version.number))
        if compiled is None:
            topic = self._image.topics.get(name)
            settings: Mapping[str, str] = {} if topic is None else topic.overrides
            compiled = CompiledExchange(name, version, self._compiler, settings)
            self._compiled[name, version.number] = compiled
        return compiled

    def _settings_changed(self, before: Image, name: str) -> bool:
        was, now = before.topics.get(name), self._image.topics.get(name)
        return (was and was.overrides) != (now and now.overrides)

    def _forget(self, names: set[str]) -> None:
        """Drop what may be compiled otherwise now: versions that are gone, or whose settings changed."""
        for key in [key for key in self._compiled if key[0] in names and self._is_stale(*key)]:
            del self._compiled[key]

    def _is_stale(self, name: str, number: int) -> bool:
        exchange, topic = self._image.exchanges.get(name), self._image.topics.get(name)
        if exchange is None or topic is None:
            return exchange is None
        compiled = self._compiled[name, number]
        kept = any(version is compiled.version for version in exchange.versions)
        return not kept or compiled.settings != topic.overrides
