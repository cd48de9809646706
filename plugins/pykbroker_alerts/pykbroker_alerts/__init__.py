"""Alerts of pykbroker: dead letters in the log, and to a webhook, counted rather than one by one.

The hook only counts; the service ``alerts`` tells, at most once in an interval, and a thread talks to the
webhook: whatever that does, delivery does not wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import trio

from pykbroker import (
    Component,
    Kind,
    PluginSetting,
    RecordDeadLettered,
    Service,
    ServiceContext,
    hookimpl,
)
from pykbroker_alerts.tally import Counts, Tally, add, entries

log = logging.getLogger(__name__)


class Alerts:
    """The plugin; each broker makes one of its own."""

    def __init__(self) -> None:
        self.tally = Tally()

    @hookimpl
    def pykbroker_record_dead_lettered(self, event: RecordDeadLettered) -> None:
        """Count a dead letter."""
        self.tally.add(event)

    @hookimpl
    def pykbroker_register_services(self) -> Iterable[Component[Service]]:
        """The service that tells."""
        return [
            Component(
                "alerts",
                lambda build: Teller(self.tally),
                settings=[
                    PluginSetting(
                        key="url",
                        kind=Kind.STRING,
                        default="",
                        doc="The webhook that gets alerts, http:// or https://. Empty: the log only.",
                    ),
                    PluginSetting(
                        key="interval.s",
                        kind=Kind.DOUBLE,
                        default=10.0,
                        minimum=0.01,
                        doc="Seconds between two alerts, at least.",
                    ),
                    PluginSetting(
                        key="timeout.s",
                        kind=Kind.DOUBLE,
                        default=5.0,
                        minimum=0.01,
                        doc="Seconds that the webhook has to answer.",
                    ),
                ],
                doc="Tells of dead letters in the log and to a webhook.",
            )
        ]


class Teller:
    """The service: takes what is counted, and tells it."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._one_at_a_time = trio.CapacityLimiter(1)

    async def run(self, ctx: ServiceContext) -> None:
        """Tell until cancelled; what is counted then is in the log at least.

        Raises ValueError for a webhook that is none.
        """
        url = ctx.settings.text("url")
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("pykbroker.plugin.alerts.url must begin with http:// or https://")
        unsent: Counts = {}
        try:
            while True:
                if not unsent:
                    await self._tally.wait()
                fresh = self._tally.take()
                _log(fresh)
                if url:
                    add(unsent, fresh)
                    if await self._post(url, unsent, ctx):
                        unsent = {}
                await trio.sleep(ctx.settings.number("interval.s"))
        finally:
            _log(self._tally.take())

    async def _post(self, url: str, counts: Counts, ctx: ServiceContext) -> bool:
        """Tell the webhook; whether it has taken it."""
        from pykbroker_alerts.webhook import (
            post,
            shown,
        )  # what it imports is large, and most brokers need none

        alert = {"event": "dead-letters", "time_ms": ctx.time_ms(), "dead_letters": entries(counts)}
        timeout_s = ctx.settings.number("timeout.s")
        try:
            with trio.fail_after(timeout_s):
                await trio.to_thread.run_sync(
                    post, url, alert, timeout_s, abandon_on_cancel=True, limiter=self._one_at_a_time
                )
        except (OSError, ValueError, trio.TooSlowError) as error:
            why = str(error) or type(error).__name__
            log.warning("an alert was not sent, and will be tried again: to=%s error=%s", shown(url), why)
            return False
        return True


def _log(counts: Counts) -> None:
    for (topic, group, dead_letter_topic), (count, event) in counts.items():
        log.warning(
            "%s: topic=%s group=%s%s count=%d; the latest: partition=%s offset=%s attempt=%d reason=%s",
            "dead letters" if dead_letter_topic is not None else "failed records discarded by a policy",
            topic,
            group,
            f" dead_letter_topic={dead_letter_topic}" if dead_letter_topic is not None else "",
            count,
            # Who sends a failed record itself mostly does not say where it was.
            "-" if event.partition is None else event.partition,
            "-" if event.offset is None else event.offset,
            event.attempt,
            event.reason or "-",
        )
