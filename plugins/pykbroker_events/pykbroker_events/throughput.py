"""What is appended, per topic, in the log now and then: ``--plugin pykbroker_events.throughput``.

A plugin of its own, which is loaded only when asked for: it listens on the path of every produce, and
who does not want the figures shall not pay for them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import trio

from pykbroker import Component, Kind, PluginSetting, RecordsAppended, Service, ServiceContext, hookimpl

log = logging.getLogger(__name__)


class Totals:
    """Batches, records and bytes since they were last taken, by topic."""

    def __init__(self) -> None:
        self._by_topic: dict[str, list[int]] = {}

    def add(self, event: RecordsAppended) -> None:
        """Count one batch."""
        counts = self._by_topic.get(event.topic)
        if counts is None:
            counts = self._by_topic[event.topic] = [0, 0, 0]
        counts[0] += 1
        counts[1] += event.last_offset - event.base_offset + 1
        counts[2] += event.size

    def take(self) -> dict[str, tuple[int, int, int]]:
        """The counts, which begin anew."""
        taken, self._by_topic = self._by_topic, {}
        return {topic: (batches, records, size) for topic, (batches, records, size) in taken.items()}


_totals = Totals()


@hookimpl
def pykbroker_records_appended(event: RecordsAppended) -> None:
    """Count a batch."""
    _totals.add(event)


@hookimpl
def pykbroker_register_services() -> Iterable[Component[Service]]:
    """The service that reports."""
    return [
        Component(
            "throughput",
            lambda build: Throughput(),
            settings=[
                PluginSetting(
                    key="interval.s",
                    kind=Kind.DOUBLE,
                    default=10.0,
                    minimum=0.01,
                    doc="Seconds between two reports.",
                )
            ],
            doc="Reports what is appended to each topic.",
        )
    ]


class Throughput:
    """The service: one line in the log per topic and interval, none for a topic that got nothing."""

    async def run(self, ctx: ServiceContext) -> None:
        """Report until cancelled."""
        interval = ctx.settings.number("interval.s")
        while True:
            await trio.sleep(interval)
            for topic, (batches, records, size) in sorted(_totals.take().items()):
                log.info(
                    "throughput: topic=%s batches=%d records=%d bytes=%d seconds=%g",
                    topic, batches, records, size, interval,
                )  # fmt: skip
